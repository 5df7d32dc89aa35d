"""Euler's method for the probability-flow ODE, equation (1) of `codi_jax.diffusion.samplers`.

    z' = z + (α' - α) x̂0 + (σ' - σ) ε̂                                           (1)
       = z + (σ' - σ) û + (α' + σ' - α - σ) x̂0,    û = ε̂ - x̂0                  (2)

It does not depend on how the path of levels is parametrized. The second form holds for the prediction kind `flow`
without conversion: on the straight path of `schedules.rectified_flow`, where α + σ = 1, the last term is 0 and (2) is

    z' = z + (τ' - τ) û                                                         (3)

the step of rectified flow (Liu et al., "Flow straight and fast", arXiv 2209.03003). Since z = α x̂0 + σ ε̂, (1) is
z' = α' x̂0 + σ' ε̂, which is DDIM with η = 0: the two differ by rounding only.
"""

from typing import Literal

from codi_jax.diffusion.process import convert
from codi_jax.diffusion.samplers.base import SAMPLERS, State
from codi_jax.diffusion.schedules import Level
from codi_jax.types import Array


class Euler:
    """See `Sampler`."""

    evaluations = 1
    noise: Literal["none"] = "none"

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
        """One step of (2)."""
        x0 = convert(prediction, state.z, now.alpha, now.sigma, kind, "x0")
        flow = convert(prediction, state.z, now.alpha, now.sigma, kind, "flow")
        bend = (then.alpha - now.alpha) + (then.sigma - now.sigma)
        return State(state.z + (then.sigma - now.sigma) * flow + bend * x0)


SAMPLERS.add("euler", Euler())
