"""SDE-DPM-Solver++(2M): DPM-Solver++(2M) on the reverse SDE instead of the ODE, with one network call a step.

Lu et al., "DPM-Solver++" (arXiv 2211.01095), section 5 and appendix; `dpmpp_2m_sde` of k-diffusion at its η = 1:

    z' = (σ'/σ) e^{-h} z + α' (1 - e^{-2h}) D + σ' √(1 - e^{-2h}) ξ,    ξ ~ N(0, I)   (1)

with D of `dpmpp_2m`, equation (2): x̂0 extrapolated from this step and the one before. With D = x̂0, as in the first step
and in a step to σ' = 0, (1) is the step of `ancestral`. Mean and covariance of the samples are of second order in h.
"""

from typing import Literal

import jax.numpy as jnp

from codi_jax.diffusion.process import convert
from codi_jax.diffusion.samplers.base import SAMPLERS, State
from codi_jax.diffusion.samplers.dpmpp_2m import DPMpp2M, PreviousPrediction, extrapolate
from codi_jax.diffusion.schedules import Level
from codi_jax.types import Array


class DPMpp2MSDE:
    """See `Sampler`."""

    evaluations = 1
    noise: Literal["always"] = "always"

    def init(self, z: Array) -> State:
        """The history of `dpmpp_2m`."""
        return DPMpp2M().init(z)

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
        assert noise is not None  # as `noise` above demands
        x0 = convert(prediction, state.z, now.alpha, now.sigma, kind, "x0")
        log_snr_difference = then.log_snr - now.log_snr  # 2h
        share = -jnp.expm1(-log_snr_difference)
        keep = then.sigma / now.sigma * jnp.exp(-log_snr_difference / 2)
        z = keep * state.z + then.alpha * share * extrapolate(x0, state.history, now, then)
        return State(z + then.sigma * jnp.sqrt(share) * noise, PreviousPrediction(x0, now.log_snr))


SAMPLERS.add("dpmpp_2m_sde", DPMpp2MSDE())
