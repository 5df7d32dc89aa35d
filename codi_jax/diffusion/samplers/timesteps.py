"""The timesteps that a sampler visits."""

from typing import Literal

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.diffusion.schedules import CLEAN, Schedule


def timesteps(schedule: Schedule, steps: int, spacing: Literal["release", "trailing"] = "trailing") -> np.ndarray:
    """The timesteps of a sampler.

    'trailing' starts at the last timestep T - 1, the closest to pure noise, and ends at the clean level, in equal
    strides up to rounding (Lin et al., "Common diffusion noise schedules and sample steps are flawed", arXiv
    2305.08891). 'release' is the spacing of the CoDi release: stride c = T // steps, timesteps 1, 1 + c, … in reverse,
    and a last step to timestep 0, whose noise remains. If c does not divide T there are more steps than requested (31
    for 30); some numbers of steps would need a timestep T, which does not exist.

    Args:
      schedule: the noise schedule, of T timesteps.
      steps: number of steps, 1 … T.
      spacing: 'release' or 'trailing'.

    Returns:
      int32 [S, 2], a row (t, t_next) for each step, t descending.

    Raises:
      ConfigError: an unknown spacing or an impossible number of steps.
    """
    total = schedule.steps
    if not 1 <= steps <= total:
        raise ConfigError(f"sampling: steps must be between 1 and {total}, got {steps}")
    if spacing == "trailing":
        levels = np.round(np.linspace(total - 1, CLEAN, steps + 1)).astype(np.int32)
    elif spacing == "release":
        levels = np.append(0, np.arange(0, total, total // steps) + 1)[::-1].astype(np.int32)
        if levels[0] >= total:
            raise ConfigError(
                f"sampling: {steps} steps with release spacing start at t = {levels[0]}, but the schedule ends at "
                f"{total - 1}; choose another number of steps or trailing spacing"
            )
    else:
        raise ConfigError(f"sampling: unknown spacing {spacing!r}; known are release, trailing")
    return np.stack([levels[:-1], levels[1:]], axis=1)


def delayed(pairs: np.ndarray, delay: int, steps: int) -> np.ndarray:
    """The timesteps of a latent that starts `delay` steps late in a loop of `steps` steps.

    Args:
      pairs: [S, 2], see `timesteps`.
      delay: steps before the first row of `pairs`, at most steps - S.
      steps: number of rows to return.

    Returns:
      int32 [steps, 2]; in rows before and after those of `pairs` both timesteps are equal.
    """
    before, after = np.full((delay, 2), pairs[0, 0]), np.full((steps - delay - len(pairs), 2), pairs[-1, 1])
    return np.concatenate([before, pairs, after]).astype(np.int32)
