"""What the outputs are becoming while they are sampled: x̂0 between two latents, without another network call.

A step of the ODE keeps x̂0 and ε̂ of its network call,

    z_t = α x̂0 + σ ε̂,    z_t' = α' x̂0 + σ' ε̂      ⇒      x̂0 = (σ' z_t - σ z_t') / (α σ' - α' σ)         (1)

which is exact for `ddim` without noise and `euler`; of samplers of higher order, (1) is the prediction that they have
extrapolated. Where a sampler adds noise, (1) would have this noise in it, and there are no previews.

Compiled steps are the same with and without previews, and so are the results, bit by bit.
"""

from collections.abc import Mapping
from typing import Protocol

from codi_jax.diffusion.samplers import State
from codi_jax.diffusion.schedules import Level, Schedule
from codi_jax.sampling.work import WorkPlan
from codi_jax.types import Array


class PreviewFn(Protocol):
    """Called after a network call, with the calls that are done, their number, and x̂0 of outputs as latents."""

    def __call__(self, done: int, total: int, latents: dict[str, Array], /) -> None: ...


def data_between(z: Array, z_next: Array, now: Level, then: Level) -> Array:
    """x̂0 of (1), from the latents [n, ...] at two levels."""
    return (then.sigma * z - now.sigma * z_next) / (now.alpha * then.sigma - then.alpha * now.sigma)


class Previews:
    """Calls a `PreviewFn` in the loop of a sampler, with x̂0 of every output that has moved.

    Args:
      show: the callback.
      plan: the network calls.
      schedule: the noise schedule.
    """

    def __init__(self, show: PreviewFn, plan: WorkPlan, schedule: Schedule):
        self._show, self._plan, self._schedule = show, plan, schedule
        self._begin: dict[str, Array] = {}  # latents before the first network call of the present step
        self._data: dict[str, Array] = {}

    def __call__(self, row: int, before: Mapping[str, State], after: Mapping[str, State]) -> None:
        """Shows what network call `row` has made of the states before it."""
        for name in self._plan.work[row].branches:
            if not self._plan.calls.evaluation[row]:
                self._begin[name] = before[name].z
            now, then = (self._schedule.at(t) for t in self._plan.timesteps(name)[row])
            self._data[name] = data_between(self._begin[name], after[name].z, now, then)
        self._show(row + 1, len(self._plan.work), dict(self._data))
