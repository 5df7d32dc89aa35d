"""Heun's method of second order for the probability-flow ODE, with two network calls a step.

Karras et al., "Elucidating the design space of diffusion-based generative models" (arXiv 2206.00364), algorithm 1. The
first update is the step of Euler (and of DDIM), the second replaces the derivative by the mean of those at both ends:

    z̃' = z + (α' - α) x̂0 + (σ' - σ) ε̂ = α' x̂0 + σ' ε̂                           (1)
    z' = z + (α' - α) (x̂0 + x̂0') / 2 + (σ' - σ) (ε̂ + ε̂') / 2                   (2)

x̂0' and ε̂' are predicted for z̃' at the level (α', σ'). (2) is the trapezoidal rule for the line integral of
dz = x̂0 dα + ε̂ dσ along the path of levels. Karras et al. write z/α as a function of σ/α; with α = α' = 1, (2) is their
step. In z it is also stable from almost pure noise, where σ/α changes by orders of magnitude in one step, and on the
straight path of `schedules.rectified_flow` it is Heun's method for the flow: z' = z + (τ' - τ) (û + û') / 2. The step
to σ' = 0 is (1).
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from codi_jax.diffusion.process import convert
from codi_jax.diffusion.samplers.base import SAMPLERS, State
from codi_jax.diffusion.schedules import Level
from codi_jax.types import Array


class FirstPrediction(NamedTuple):
    """x̂0 and ε̂ of the first evaluation of the step, of the shape of z."""

    x0: Array
    eps: Array


class Heun:
    """See `Sampler`."""

    evaluations = 2
    noise: Literal["none"] = "none"

    def init(self, z: Array) -> State:
        """The history is written by the first evaluation of a step and read by the second."""
        return State(z, FirstPrediction(jnp.zeros_like(z), jnp.zeros_like(z)))

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
        """(1), then (2) as the difference to it."""
        level = then if evaluation else now
        x0 = convert(prediction, state.z, level.alpha, level.sigma, kind, "x0")
        eps = convert(prediction, state.z, level.alpha, level.sigma, kind, "eps")
        if evaluation == 0:
            return State(then.alpha * x0 + then.sigma * eps, FirstPrediction(x0, eps))
        first: FirstPrediction = state.history
        change = (then.alpha - now.alpha) * (x0 - first.x0) + (then.sigma - now.sigma) * (eps - first.eps)
        return State(state.z + change / 2, first)


SAMPLERS.add("heun", Heun())
