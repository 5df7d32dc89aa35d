"""The timesteps that a sampler visits, and the network calls that it makes at them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from codi_jax.config import ConfigError, did_you_mean
from codi_jax.diffusion.schedules import CLEAN, Schedule

# Range of σ/α of the spacings over continuous times: σ_min and σ_max of Karras et al., table 1.
LOW, HIGH = 0.002, 80.0


def _trailing(schedule: Schedule, steps: int) -> np.ndarray:
    return np.round(np.linspace(schedule.steps - 1, CLEAN, steps + 1)).astype(np.int32)


def _release(schedule: Schedule, steps: int) -> np.ndarray:
    total = schedule.steps
    levels = np.append(0, np.arange(0, total, total // steps) + 1)[::-1].astype(np.int32)
    if levels[0] >= total:
        raise ConfigError(
            f"sampling: {steps} steps with release spacing start at t = {levels[0]}, but the schedule ends at "
            f"{total - 1}; choose another number of steps or trailing spacing"
        )
    return levels


def _noise_range(schedule: Schedule) -> tuple[float, float]:
    """log(σ/α) of the noisiest and the least noisy level that is visited."""
    log_noise = -schedule.log_snr / 2
    return min(log_noise[-1], np.log(HIGH)), max(log_noise[0], np.log(LOW))


def _log_snr(schedule: Schedule, steps: int) -> np.ndarray:
    high, low = _noise_range(schedule)
    return _continuous(schedule, np.linspace(high, low, steps))


def _karras(schedule: Schedule, steps: int, rho: float = 7.0) -> np.ndarray:
    high, low = np.exp(np.array(_noise_range(schedule)) / rho)
    return _continuous(schedule, rho * np.log(np.linspace(high, low, steps)))


def _continuous(schedule: Schedule, log_noise: np.ndarray) -> np.ndarray:
    """Timesteps of these log(σ/α), and the clean level."""
    return np.append(schedule.timestep(-2 * log_noise), CLEAN).astype(np.float32)


# name -> function of schedule and number of steps to the levels, in descending order of t
SPACINGS: dict[str, Callable[[Schedule, int], np.ndarray]] = {
    "trailing": _trailing,
    "release": _release,
    "karras": _karras,
    "log_snr": _log_snr,
}


def timesteps(schedule: Schedule, steps: int, spacing: str = "trailing") -> np.ndarray:
    """The timesteps of a sampler.

    'trailing' starts at the last timestep T - 1, the closest to pure noise, and ends at the clean level, in equal
    strides up to rounding (Lin et al., "Common diffusion noise schedules and sample steps are flawed", arXiv
    2305.08891). 'release' is the spacing of the CoDi release: stride c = T // steps, timesteps 1, 1 + c, … in reverse,
    and a last step to timestep 0, whose noise remains. If c does not divide T there are more steps than requested (31
    for 30); some numbers of steps would need a timestep T, which does not exist.

    The others visit real timesteps. 'karras' has equal strides in (σ/α)^(1/7) (Karras et al., "Elucidating the design
    space of diffusion-based generative models", arXiv 2206.00364, equation 5), 'log_snr' in log SNR (Lu et al.,
    "DPM-Solver", arXiv 2206.00927). Both go from T - 1 to 0, but stay within σ/α = 0.002 … 80, since a schedule that
    ends in almost pure noise would have most strides there; their last step is to the clean level.

    Args:
      schedule: the noise schedule, of T timesteps.
      steps: number of steps, 1 … T.
      spacing: a name of SPACINGS.

    Returns:
      [S, 2], a row (t, t_next) for each step, t descending; int32 of 'trailing' and 'release', else float32.

    Raises:
      ConfigError: an unknown spacing or an impossible number of steps.
    """
    if spacing not in SPACINGS:
        known = ", ".join(SPACINGS)
        raise ConfigError(f"sampling: unknown spacing {spacing!r}; known are {known}{did_you_mean(spacing, SPACINGS)}")
    if not 1 <= steps <= schedule.steps:
        raise ConfigError(f"sampling: steps must be between 1 and {schedule.steps}, got {steps}")
    levels = SPACINGS[spacing](schedule, steps)
    return np.stack([levels[:-1], levels[1:]], axis=1)


def delayed(pairs: np.ndarray, delay: int, steps: int) -> np.ndarray:
    """The timesteps of a latent that starts `delay` steps late in a loop of `steps` steps.

    Args:
      pairs: [S, 2], see `timesteps`.
      delay: steps before the first row of `pairs`, at most steps - S.
      steps: number of rows to return.

    Returns:
      [steps, 2], of the type of `pairs`; in rows before and after those of `pairs` both timesteps are equal.
    """
    before, after = np.full((delay, 2), pairs[0, 0]), np.full((steps - delay - len(pairs), 2), pairs[-1, 1])
    return np.concatenate([before, pairs, after]).astype(pairs.dtype)


class NetworkCalls(NamedTuple):
    """The network calls of a sampler, in order.

    Attributes:
      step: int32 [R], number of the step, from 0.
      evaluation: int32 [R], number of the call within its step, from 0.
      pairs: [R, 2], the timesteps (t, t_next) of the step; or [R, K, 2] for K latents.
    """

    step: np.ndarray
    evaluation: np.ndarray
    pairs: np.ndarray


def network_calls(pairs: np.ndarray, evaluations: int) -> NetworkCalls:
    """The network calls of all steps.

    A step to the clean level has the first evaluation only: the network is not trained on data without noise. A latent
    that has ended so waits for the others, with t = t_next. Calls for which all latents wait are left out.

    Args:
      pairs: [S, 2], see `timesteps`; or [S, K, 2] for K latents.
      evaluations: network calls of a step.
    """
    step = np.repeat(np.arange(len(pairs), dtype=np.int32), evaluations)
    evaluation = np.tile(np.arange(evaluations, dtype=np.int32), len(pairs))
    rows = np.repeat(pairs, evaluations, axis=0)
    ended = (rows[..., 1] == CLEAN) & (evaluation.reshape(-1, *(1,) * (rows.ndim - 2)) > 0)
    rows[..., 0] = np.where(ended, CLEAN, rows[..., 0])
    moving = (rows[..., 0] != rows[..., 1]).reshape(len(rows), -1).any(axis=1)
    return NetworkCalls(step[moving], evaluation[moving], rows[moving])
