"""The blocks of a U-Net in order, the same for every kind of latent.

Down: a stem, then on each level its residual blocks and, except on the last level, a downsampling; each *step* of these
leaves a skip. The middle follows. Up: on each level one block more than on the way down, since the stem and the
downsamplings leave a skip too; each block takes the last skip, and the last block of a level upsamples. Four levels of
two blocks have steps 0..11 down and 0..11 up, as in Stable Diffusion 1 and in CoDi.

The *place* of a step, ("inputs", i) or ("outputs", i), is the path of its parameters and of the cross-modal attention
that follows it, after an upsampling if it has one.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from codi_jax.nn.config import EnvironmentConfig, UNetConfig

BlockSite = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class BlockSpec:
    """One step of a network.

    Attributes:
      place: path of its parameters.
      content: "stem" (latent to features), "residual" or "down".
      width: output channels.
      attend: self-attention and cross-attention to the prompt follow the residual block.
      connect: cross-modal attention can follow.
      up: an upsampling follows the residual block.
      level: of a residual block, 0 is the finest.
    """

    place: BlockSite
    content: Literal["stem", "residual", "down"]
    width: int
    attend: bool = False
    connect: bool = False
    up: bool = False
    level: int = 0


def input_steps(config: UNetConfig) -> list[BlockSpec]:
    """The steps on the way down."""
    steps = [BlockSpec(("inputs", 0), "stem", config.channels)]
    levels = len(config.multipliers)
    for level, multiplier in enumerate(config.multipliers):
        width = multiplier * config.channels
        for _ in range(config.blocks[level]):
            place = ("inputs", len(steps))
            steps.append(
                BlockSpec(
                    place, "residual", width, config.attention_levels[level], config.cross_modal_levels[level],
                    level=level,
                )
            )  # fmt: skip
        if level < levels - 1:
            steps.append(BlockSpec(("inputs", len(steps)), "down", width))
    return steps


def output_steps(config: UNetConfig) -> list[BlockSpec]:
    """The steps on the way up."""
    steps = []
    for level in reversed(range(len(config.multipliers))):
        width, blocks = config.multipliers[level] * config.channels, config.blocks[level] + 1
        for block in range(blocks):
            up = level > 0 and block == blocks - 1
            place = ("outputs", len(steps))
            attention, cross_modal = config.attention_levels[level], config.cross_modal_levels[level]
            steps.append(BlockSpec(place, "residual", width, attention, cross_modal, up, level))
    return steps


def cross_modal_steps(config: UNetConfig) -> list[BlockSpec]:
    """The residual blocks of a U-Net that cross-modal attention follows."""
    return [step for step in (*input_steps(config), *output_steps(config)) if step.connect]


def timing_steps(config: UNetConfig, levels: Sequence[bool]) -> list[BlockSpec]:
    """The residual blocks of a U-Net that attention in time follows."""
    every = [*input_steps(config), *output_steps(config)]
    return [step for step in every if step.content == "residual" and levels[step.level]]


def environment_steps(config: EnvironmentConfig) -> list[BlockSpec]:
    """The steps of an environment encoder before its head."""
    steps = [BlockSpec(("stages", 0), "stem", config.channels // 2)]
    levels = len(config.multipliers)
    for level, multiplier in enumerate(config.multipliers):
        width = multiplier * config.channels
        steps += [BlockSpec(("stages", len(steps) + n), "residual", width) for n in range(config.blocks[level])]
        if level < levels - 1:
            steps.append(BlockSpec(("stages", len(steps)), "down", width))
    return steps
