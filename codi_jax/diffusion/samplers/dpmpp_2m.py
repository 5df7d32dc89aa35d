"""DPM-Solver++(2M), of second order with one network call a step.

Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", arXiv 2211.01095,
algorithm 2:

    z' = (σ'/σ) z - α' (e^{-h} - 1) D                                           (1)
    D  = (1 + 1/2r) x̂0 - (1/2r) x̂0_previous,    r = h_previous / h              (2)

The first step has no history and uses D = x̂0, as does a step to σ' = 0, where h is infinite and (1) reads z' = D. With
D = x̂0, (1) is the step of DDIM at η = 0.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from codi_jax.diffusion.process import convert
from codi_jax.diffusion.samplers.base import SAMPLERS, State
from codi_jax.diffusion.schedules import Level
from codi_jax.types import Array


class PreviousPrediction(NamedTuple):
    """The previous step: x̂0, of the shape of z, and its log-SNR, a scalar."""

    x0: Array
    log_snr: Array


class DPMpp2M:
    """See `Sampler`."""

    evaluations = 1
    noise: Literal["none"] = "none"

    def init(self, z: Array) -> State:
        """A previous log-SNR of -∞ gives r = ∞ in the first step, so that (2) is D = x̂0."""
        return State(z, PreviousPrediction(jnp.zeros_like(z), jnp.full((), -jnp.inf, z.dtype)))

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
        """One step of (1)."""
        x0 = convert(prediction, state.z, now.alpha, now.sigma, kind, "x0")
        h = (then.log_snr - now.log_snr) / 2
        d = extrapolate(x0, state.history, now, then)
        z = then.sigma / now.sigma * state.z - then.alpha * jnp.expm1(-h) * d
        return State(z, PreviousPrediction(x0, now.log_snr))


def extrapolate(x0: Array, history: PreviousPrediction, now: Level, then: Level) -> Array:
    """D of (2)."""
    h = (then.log_snr - now.log_snr) / 2
    h_previous = (now.log_snr - history.log_snr) / 2
    half_inverse_r = jnp.where(then.sigma > 0, h / (2 * h_previous), 0)
    return x0 + half_inverse_r * (x0 - history.x0)


SAMPLERS.add("dpmpp_2m", DPMpp2M())
