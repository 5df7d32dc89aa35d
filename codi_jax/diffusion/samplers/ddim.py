"""DDIM (Song et al., "Denoising diffusion implicit models", arXiv 2010.02502, equations 12 and 16).

    z' = α' x̂0 + √(σ'² - s²) ε̂ + s ξ,    ξ ~ N(0, I)                            (1)
    s  = η (σ'/σ) √(1 - α²/α'²) = η σ' √(1 - SNR/SNR')                          (2)

η = 0 is deterministic and of first order, η = 1 is ancestral sampling. The second form of s avoids cancellation, and
holds for schedules that do not preserve the variance, too.
"""

from typing import Literal

import jax.numpy as jnp

from codi_jax.diffusion.process import convert
from codi_jax.diffusion.samplers.base import SAMPLERS, State
from codi_jax.diffusion.schedules import Level
from codi_jax.types import Array


class DDIM:
    """See `Sampler`."""

    evaluations = 1
    noise: Literal["eta"] = "eta"

    def init(self, z: Array) -> State:
        """There is no history."""
        return State(z)

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
        eps = convert(prediction, state.z, now.alpha, now.sigma, kind, "eps")
        if noise is None:
            return State(then.alpha * x0 + then.sigma * eps)
        share = eta**2 * -jnp.expm1(now.log_snr - then.log_snr)  # s² / σ'²
        s = then.sigma * jnp.sqrt(share)
        direction = then.sigma * jnp.sqrt(1 - share)
        return State(then.alpha * x0 + direction * eps + s * noise)


SAMPLERS.add("ddim", DDIM())
