"""The plan of a U-Net, written once for every kind of latent.

Down: a stem, then on each level its residual blocks and, but for the last level, a downsampling; each of these *steps*
leaves a skip. The middle follows. Up: on each level one block more than on the way down, since the step that changed
the resolution left a skip too; each block takes the last skip, and the last block of a level upsamples. Four levels of
two blocks make steps 0..11 down and 0..11 up, as in Stable Diffusion 1 and in CoDi.

A step's *place*, ("inputs", i) or ("outputs", i), names its parameters and tells where cross-modal attention sits:
after the whole step, hence after an upsampling.
"""

import dataclasses
from typing import Literal

from codi_jax.nn.config import EnvironmentConfig, UNetConfig

Place = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a network.

    Attributes:
      place: where it is.
      content: "stem" (latent to features), "residual" or "down".
      width: channels after it.
      attend: a residual block attends to itself and to the prompt.
      connect: cross-modal attention may follow.
      up: a residual block ends with an upsampling.
    """

    place: Place
    content: Literal["stem", "residual", "down"]
    width: int
    attend: bool = False
    connect: bool = False
    up: bool = False


def input_steps(config: UNetConfig) -> list[Step]:
    """The way down."""
    steps = [Step(("inputs", 0), "stem", config.channels)]
    levels = len(config.multipliers)
    for level, multiplier in enumerate(config.multipliers):
        width = multiplier * config.channels
        for _ in range(config.blocks[level]):
            place = ("inputs", len(steps))
            steps.append(
                Step(place, "residual", width, config.attention_levels[level], config.cross_modal_levels[level])
            )
        if level < levels - 1:
            steps.append(Step(("inputs", len(steps)), "down", width))
    return steps


def output_steps(config: UNetConfig) -> list[Step]:
    """The way up."""
    steps = []
    for level in reversed(range(len(config.multipliers))):
        width, blocks = config.multipliers[level] * config.channels, config.blocks[level] + 1
        for block in range(blocks):
            up = level > 0 and block == blocks - 1
            place = ("outputs", len(steps))
            steps.append(
                Step(place, "residual", width, config.attention_levels[level], config.cross_modal_levels[level], up)
            )
    return steps


def environment_steps(config: EnvironmentConfig) -> list[Step]:
    """The steps of an environment encoder before its head."""
    steps = [Step(("stages", 0), "stem", config.channels // 2)]
    levels = len(config.multipliers)
    for level, multiplier in enumerate(config.multipliers):
        width = multiplier * config.channels
        steps += [Step(("stages", len(steps) + n), "residual", width) for n in range(config.blocks[level])]
        if level < levels - 1:
            steps.append(Step(("stages", len(steps)), "down", width))
    return steps
