"""What a sampler is, and the registry of samplers by the name in a config."""

from typing import NamedTuple, Protocol

from codi_jax.diffusion.schedules import Level
from codi_jax.registry import Registry
from codi_jax.types import Array, PyTree


class State(NamedTuple):
    """State of a sampler: the latent [B, ...], and what a multistep sampler remembers of earlier steps."""

    z: Array
    history: PyTree = None


class Init(Protocol):
    """Makes the state of a latent at the first timestep."""

    def __call__(self, z: Array) -> State: ...


class Step(Protocol):
    """One step of a sampler."""

    def __call__(
        self, state: State, prediction: Array, kind: str, now: Level, then: Level, eta: Array, noise: Array | None
    ) -> State:
        """Takes a latent from one level to the next.

        Args:
          state: the latent at level `now`.
          prediction: the (guided) prediction of the network, shape of z.
          kind: its prediction kind.
          now, then: α, σ and log-SNR of this level and the next, scalars (or shapes that broadcast against z, for a
            sampler without history).
          eta: η of DDIM, between 0 and 1.
          noise: standard normal noise, shape of z; None for η = 0.
        """
        ...


class Sampler(NamedTuple):
    """A sampler: the initial state of a latent, the step, and whether the step can add noise."""

    init: Init
    step: Step
    stochastic: bool


SAMPLERS: Registry[Sampler] = Registry(
    "sampler", {name: f"codi_jax.diffusion.samplers.{name}" for name in ("ddim", "dpmpp_2m")}
)
register = SAMPLERS.register
