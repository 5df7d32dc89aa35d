"""Noise schedules: the coefficients of latent and noise at timestep t.

    z_t = α_t x0 + σ_t ε,    ε ~ N(0, I)                                        (1)
    α_t = √ᾱ_t,  σ_t = √(1 - ᾱ_t),  ᾱ_t = ∏_{s ≤ t} (1 - β_s)                   (2)
    log SNR_t = log(α_t² / σ_t²)                                                (3)

t = 0 … T - 1 are the noisy levels of Ho et al., "Denoising diffusion probabilistic models" (arXiv 2006.11239), counted
from 0. t = 0 still has a little noise, so one more level is defined: t = `CLEAN` = -1, with α = 1, σ = 0 and
log SNR = ∞. It extends (2) by the empty product, and samplers may end there.

A schedule is hashable and compared by value: a jitted function may close over it or take it as a static argument.
"""

import dataclasses
import functools
import inspect
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.types import Array

CLEAN = -1  # the level without noise


class Level(NamedTuple):
    """The coefficients of (1) and (3) at some timesteps, all of one shape."""

    alpha: Array
    sigma: Array
    log_snr: Array


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A discrete variance-preserving schedule.

    Attributes:
      betas: the T noise increments β_t; everything is derived from them in float64 and rounded once.
      dtype: of the coefficients that `at` returns. float64 (with x64 enabled) serves to measure a sampler's order.

    Raises:
      ConfigError: no betas, or one outside (0, 1).
    """

    betas: tuple[float, ...]
    dtype: str = "float32"

    def __post_init__(self):
        if not self.betas or not all(0 < beta < 1 for beta in self.betas):
            raise ConfigError("schedule: every beta must be strictly between 0 and 1")

    @property
    def steps(self) -> int:
        """T: valid levels are -1 (clean) to T - 1."""
        return len(self.betas)

    @functools.cached_property
    def abar(self) -> np.ndarray:
        """ᾱ of timesteps 0 … T - 1, float64 [T]."""
        return np.cumprod(1.0 - np.asarray(self.betas))

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """α, σ and log SNR of timesteps -1 … T - 1, float64 [3, T + 1]."""
        abar = np.append(1.0, self.abar)
        with np.errstate(divide="ignore"):  # the clean level has an infinite signal-to-noise ratio
            return np.stack([np.sqrt(abar), np.sqrt(1.0 - abar), np.log(abar) - np.log(1.0 - abar)])

    def at(self, t: Array | int, like: Array | None = None) -> Level:
        """The coefficients at timesteps t.

        Args:
          t: integers, of shape [] or [B]; may be traced. A value outside -1 … T - 1 gives NaN, since a compiled program
            cannot raise.
          like: a latent [B, ...]; if given, the coefficients get unit axes to broadcast against it.
        """
        index = jnp.asarray(t) + 1
        table = jnp.asarray(self._table, self.dtype)
        rows = table.at[:, index].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        if like is not None:
            rows = rows.reshape(rows.shape + (1,) * (like.ndim - index.ndim))
        return Level(*rows)


def scaled_linear(steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> Schedule:
    """√β is linear in t, from √start to √end.

    The schedule of latent diffusion models (Rombach et al., arXiv 2112.10752). Their code and CoDi's call it "linear".
    """
    return Schedule(tuple((np.linspace(start**0.5, end**0.5, steps) ** 2).tolist()))


def cosine(steps: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """ᾱ_t = f(t + 1) / f(0) with f(t) = cos²((t / T + s) / (1 + s) · π / 2), every β clipped to `max_beta`.

    Equation (17) of Nichol and Dhariwal, "Improved denoising diffusion probabilistic models" (arXiv 2102.09672).
    """
    f = np.cos((np.arange(steps + 1) / steps + s) / (1 + s) * np.pi / 2) ** 2
    return Schedule(tuple(np.minimum(1 - f[1:] / f[:-1], max_beta).tolist()))


SCHEDULES = {"scaled_linear": scaled_linear, "cosine": cosine}


def make(name: str, **options) -> Schedule:
    """Makes a schedule of SCHEDULES by name; `options` are the arguments of its function.

    Raises:
      ConfigError: an unknown name or option.
    """
    if name not in SCHEDULES:
        raise ConfigError(f"schedule: unknown name {name!r}; known are {', '.join(SCHEDULES)}")
    known = inspect.signature(SCHEDULES[name]).parameters
    for option in options:
        if option not in known:
            raise ConfigError(f"schedule: {name} has no option {option!r}; it knows {', '.join(known)}")
    return SCHEDULES[name](**options)


def ddpm_buffers(schedule: Schedule) -> dict[str, np.ndarray]:
    """The twelve buffers of public latent-diffusion checkpoints by name, float32 [T] each.

    The posterior q(z_{t-1} | z_t, x0) is equations (6) and (7) of Ho et al. Its log-variance is clipped, since the
    variance is 0 at t = 0.
    """
    betas, abar = np.asarray(schedule.betas), schedule.abar
    before = np.append(1.0, abar[:-1])
    variance = betas * (1 - before) / (1 - abar)
    buffers = {
        "betas": betas,
        "alphas_cumprod": abar,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(abar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - abar),
        "log_one_minus_alphas_cumprod": np.log(1 - abar),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / abar),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / abar - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(before) / (1 - abar),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - abar),
    }
    return {name: values.astype(np.float32) for name, values in buffers.items()}
