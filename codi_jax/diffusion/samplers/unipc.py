"""UniPC of order 2: a predictor and a corrector that share one network call a step, of third order together.

Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models" (arXiv 2302.04867),
for data prediction and B(h) = e^h - 1 (`bh2`). With x̂0, x̂0_1 and x̂0_2 predicted at this level and at the two before, at
distances h_1 and h_2, the latent z, which the last step has predicted from z_1, is first corrected by the prediction
that was made for it, with h = h_1 and r = h_2 / h_1 (algorithm 1 of UniC):

    z^c = (σ/σ_1) z_1 + α (1 - e^{-h}) (x̂0_1 + ρ_1 (x̂0_2 - x̂0_1) / -r + ρ_2 (x̂0 - x̂0_1))   (1)
    ρ_1 + ρ_2 = b_1,    -r ρ_1 + ρ_2 = b_2,    b_1 = φ_2 / φ_1,    b_2 = 2 φ_3 / φ_1         (2)
    φ_k = Σ_j (-h)^j / (j + k)!                                                             (3)

and then the next one is predicted from z^c by UniP-2, whose only coefficient is 1/2: the step of `dpmpp_2m`. The first
step is not corrected. In the second there is no x̂0_2, and ρ_1 = 0, ρ_2 = 1/2 (UniC-1). The step to σ' = 0 is predicted
with D = x̂0, and its result is not corrected, since the network is not evaluated there.
"""

import math
from typing import Literal, NamedTuple

import jax.numpy as jnp

from codi_jax.diffusion.process import convert
from codi_jax.diffusion.samplers.base import SAMPLERS, State
from codi_jax.diffusion.samplers.dpmpp_2m import PreviousPrediction, extrapolate
from codi_jax.diffusion.schedules import Level
from codi_jax.types import Array


class UniPCHistory(NamedTuple):
    """The last two steps.

    Attributes:
      z: the corrected latent of the last step.
      level: its α, σ and log SNR; log SNR is -∞ if there is none.
      last, before: x̂0 and log SNR of the last step and of the one before.
    """

    z: Array
    level: Level
    last: PreviousPrediction
    before: PreviousPrediction


class UniPC:
    """See `Sampler`."""

    evaluations = 1
    noise: Literal["none"] = "none"

    def init(self, z: Array) -> State:
        """Log-SNRs of -∞ say that there is no step before."""
        one, nothing = jnp.ones((), z.dtype), jnp.full((), -jnp.inf, z.dtype)
        step = PreviousPrediction(jnp.zeros_like(z), nothing)
        return State(z, UniPCHistory(z, Level(one, one, nothing), step, step))

    def step(
        self,
        state: State,
        prediction: Array,
        kind: str,
        now: Level,
        then: Level,
        eta: Array,
        noise: Array | None,
        evaluation: int = 0,
    ) -> State:
        """Corrects the latent by (1), then predicts the next one."""
        history: UniPCHistory = state.history
        x0 = convert(prediction, state.z, now.alpha, now.sigma, kind, "x0")
        z = jnp.where(jnp.isfinite(history.level.log_snr), _correct(history, x0, now), state.z)
        h = (then.log_snr - now.log_snr) / 2
        d = extrapolate(x0, history.last, now, then)
        predicted = then.sigma / now.sigma * z - then.alpha * jnp.expm1(-h) * d
        return State(predicted, UniPCHistory(z, now, PreviousPrediction(x0, now.log_snr), history.last))


def _correct(history: UniPCHistory, x0: Array, now: Level) -> Array:
    """z^c of (1); meaningless if there is no step before."""
    level, last, before = history.level, history.last, history.before
    h = (now.log_snr - level.log_snr) / 2
    r = (last.log_snr - before.log_snr) / 2 / h
    one = phi(1, h)
    b_1, b_2 = phi(2, h) / one, 2 * phi(3, h) / one
    second = jnp.isinf(r)
    rho_1 = jnp.where(second, 0, (b_1 - b_2) / (1 + r))
    rho_2 = jnp.where(second, 0.5, b_1 - rho_1)
    slope = jnp.where(second, 0, (last.x0 - before.x0) / r)
    d = last.x0 + rho_1 * slope + rho_2 * (x0 - last.x0)
    return now.sigma / level.sigma * history.z - now.alpha * jnp.expm1(-h) * d


def phi(k: int, h: Array) -> Array:
    """φ_k of (3) for h > 0: its series for small h, where the recurrence φ_k = (1/(k-1)! - φ_{k-1}) / h cancels."""
    series = sum((1 / math.factorial(j + k)) * (-h) ** j for j in range(14))
    exact = -jnp.expm1(-h) / h
    for j in range(1, k):
        exact = (1 / math.factorial(j) - exact) / h
    return jnp.where(h < 1, series, exact)


SAMPLERS.add("unipc", UniPC())
