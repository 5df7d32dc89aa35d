"""Ancestral sampling (Ho et al., "Denoising diffusion probabilistic models", arXiv 2006.11239, algorithm 2).

Every step draws from the posterior q(z' | z, x̂0) of the forward process, equations (6) and (7) there. That is the step
of DDIM with η = 1, which also holds for levels that are not neighbours, and it is `euler_ancestral` of k-diffusion at
its η = 1: with σ̂ = σ/α their variance σ̂'² (σ̂² - σ̂'²) / σ̂² is (s/α')² of `ddim`, equation (2).
"""

from typing import Literal

import jax.numpy as jnp

from codi_jax.diffusion.samplers.base import SAMPLERS, State
from codi_jax.diffusion.samplers.ddim import DDIM
from codi_jax.diffusion.schedules import Level
from codi_jax.types import Array


class Ancestral:
    """See `Sampler`."""

    evaluations = 1
    noise: Literal["always"] = "always"

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
        """The step of DDIM with η = 1."""
        return DDIM().step(state, prediction, kind, now, then, jnp.ones_like(then.alpha), noise)


SAMPLERS.add("ancestral", Ancestral())
