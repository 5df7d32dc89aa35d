"""Noise schedules: the coefficients of latent and noise at timestep t.

    z_t = α_t x0 + σ_t ε,    ε ~ N(0, I)                                        (1)
    α_t = √ᾱ_t,  ᾱ_t = ∏_{s ≤ t} (1 - β_s)                                      (2)
    log SNR_t = log(α_t² / σ_t²)                                                (3)
    σ_t = √(1 - ᾱ_t)  (the variance is preserved),  or  σ_t = 1 - α_t  (linear) (4)

t = 0 … T - 1 are the noisy levels of Ho et al., "Denoising diffusion probabilistic models" (arXiv 2006.11239), counted
from 0. t = 0 still has a little noise, so one more level is defined: t = `CLEAN` = -1, with α = 1, σ = 0 and
log SNR = ∞. It extends (2) by the empty product, and samplers may end there.

Between the integers, log SNR is interpolated linearly in t, and α and σ follow from it by (4). Below t = 0, where it
would be infinite, σ/α falls in proportion to t + 1. So log SNR decreases strictly in real t, and t can be found from it
(`Schedule.timestep`).

A schedule is hashable and compared by value: a jitted function may close over it or take it as a static argument.
"""

import dataclasses
import functools
import inspect
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError, did_you_mean
from codi_jax.types import Array

CLEAN = -1  # the level without noise


class Level(NamedTuple):
    """The coefficients of (1) and (3) at some timesteps, all of one shape."""

    alpha: Array
    sigma: Array
    log_snr: Array


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A schedule of T discrete levels, and of the real timesteps between them.

    Attributes:
      betas: the T noise increments β_t of (2); everything is derived from them in float64 and rounded once.
      dtype: of the coefficients that `at` returns. float64 (with x64 enabled) serves to measure a sampler's order.
      path: how σ follows from α, see (4).

    Raises:
      ConfigError: no betas, or one outside (0, 1).
    """

    betas: tuple[float, ...]
    dtype: str = "float32"
    path: Literal["variance_preserving", "linear"] = "variance_preserving"

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

    @property
    def log_snr(self) -> np.ndarray:
        """log SNR of timesteps 0 … T - 1, float64 [T], descending."""
        return self._table[2, 1:]

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """α, σ and log SNR of timesteps -1 … T - 1, float64 [3, T + 1]."""
        abar = np.append(1.0, self.abar)
        with np.errstate(divide="ignore"):  # the clean level has an infinite signal-to-noise ratio
            if self.path == "linear":
                alpha = np.sqrt(abar)
                return np.stack([alpha, 1.0 - alpha, np.log(abar) - 2 * np.log(1.0 - alpha)])
            return np.stack([np.sqrt(abar), np.sqrt(1.0 - abar), np.log(abar) - np.log(1.0 - abar)])

    def at(self, t: Array | float, like: Array | None = None) -> Level:
        """The coefficients at timesteps t.

        Args:
          t: integers or real numbers, of shape [] or [B]; may be traced. A value outside -1 … T - 1 gives NaN, since a
            compiled program cannot raise. A real number that is an integer gives the coefficients of that integer.
          like: a latent [B, ...]; if given, the coefficients get unit axes to broadcast against it.
        """
        t = jnp.asarray(t)
        rows = self._between(t) if jnp.issubdtype(t.dtype, jnp.floating) else self._rows(t)
        if like is not None:
            rows = rows.reshape(rows.shape + (1,) * (like.ndim - t.ndim))
        return Level(*rows)

    def _rows(self, t: Array) -> Array:
        """α, σ and log SNR at integer timesteps, [3, *t.shape]."""
        table = jnp.asarray(self._table, self.dtype)
        return table.at[:, t + 1].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)

    def _between(self, t: Array) -> Array:
        """α, σ and log SNR at real timesteps, [3, *t.shape]."""
        t = t.astype(self.dtype)
        below = jnp.floor(t)
        share, index = t - below, below.astype(jnp.int32)
        lower, upper = self._rows(index), self._rows(index + 1)
        between = (1 - share) * lower[2] + share * upper[2]
        log_snr = jnp.where(index == CLEAN, upper[2] - 2 * jnp.log(share), between)
        if self.path == "linear":
            alpha, sigma = jax.nn.sigmoid(log_snr / 2), jax.nn.sigmoid(-log_snr / 2)
        else:
            alpha, sigma = jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))
        return jnp.where(share == 0, lower, jnp.stack([alpha, sigma, log_snr]))

    def timestep(self, log_snr: np.ndarray) -> np.ndarray:
        """The real timesteps of these log-SNRs, float64: the inverse of `at`, within 0 … T - 1; others are clipped."""
        levels = np.arange(self.steps, dtype=np.float64)
        return np.interp(np.asarray(log_snr, np.float64), self.log_snr[::-1], levels[::-1])


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


def rectified_flow(steps: int = 1000) -> Schedule:
    """z_τ = (1 - τ) x0 + τ ε with τ = (t + 1) / (T + 1), the straight path from noise to data.

    Liu et al., "Flow straight and fast" (arXiv 2209.03003); its velocity is the prediction kind `flow`. Pure noise,
    τ = 1, is no level: log SNR would be -∞ there and a prediction of ε would say nothing of x0.
    """
    alpha = 1 - np.arange(steps + 1) / (steps + 1)
    return Schedule(tuple((1 - (alpha[1:] / alpha[:-1]) ** 2).tolist()), path="linear")


SCHEDULES = {"scaled_linear": scaled_linear, "cosine": cosine, "rectified_flow": rectified_flow}


def make(name: str, **options) -> Schedule:
    """Makes a schedule of SCHEDULES by name; `options` are the arguments of its function.

    Raises:
      ConfigError: an unknown name or option.
    """
    if name not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise ConfigError(f"schedule: unknown name {name!r}; known are {known}{did_you_mean(name, SCHEDULES)}")
    known = inspect.signature(SCHEDULES[name]).parameters
    for option in options:
        if option not in known:
            raise ConfigError(f"schedule: {name} has no option {option!r}; it knows {', '.join(known)}")
    return SCHEDULES[name](**options)


def ddpm_buffers(schedule: Schedule) -> dict[str, np.ndarray]:
    """The twelve buffers of public latent-diffusion checkpoints by name, float32 [T] each.

    The posterior q(z_{t-1} | z_t, x0) is equations (6) and (7) of Ho et al. Its log-variance is clipped, since the
    variance is 0 at t = 0. They are defined for schedules that preserve the variance.
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
