"""What a sampler is, and the registry of samplers by the name in a config."""

from typing import Literal, NamedTuple, Protocol

from codi_jax.diffusion.schedules import Level
from codi_jax.registry import Registry
from codi_jax.types import Array, PyTree


class State(NamedTuple):
    """State of a sampler: the latent [B, ...], and what it remembers of earlier network calls (None for nothing)."""

    z: Array
    history: PyTree = None


class Sampler(Protocol):
    """A rule that takes a latent from one noise level to the next, given predictions of the network.

    A sampler is any object with the following attributes; it holds no arrays. `SAMPLERS.add("name", MySampler())` makes
    it known to configs, to calls of a pipeline (`sampler="name"`) and to `codi-jax generate --sampler=name`. It sees
    one latent at a time: the loop calls the network for all outputs together, applies guidance, and passes the
    prediction of each.

    A step has `evaluations` network calls. The first is made for the latent `state.z` at the present timestep, every
    later one for the `state.z` that the update before has returned, at the next timestep. Environment tokens of all
    outputs are computed anew for each. After each call the loop calls `step`, and after the last one `state.z` is the
    latent at the next level. A step to the clean level (σ' = 0, log SNR' = ∞) has the first evaluation only, after
    which `state.z` must be the data.

    Nothing is called where the next timestep equals the present one: `step` need not handle it.
    """

    @property
    def evaluations(self) -> int:
        """Network calls of a step, at least 1."""
        ...

    @property
    def noise(self) -> Literal["none", "eta", "always"]:
        """The noise that `step` reads: 'none'; 'eta', noise of strength η, none for η = 0; 'always', for every η.

        A sampler of 'none' or 'always' is only used with η = 0.
        """
        ...

    def init(self, z: Array) -> State:
        """The state at the first timestep.

        Args:
          z: the latent [B, ...], float32 or wider.

        Returns:
          A state whose pytree structure, shapes and types `step` keeps, so that it can be carried through a scan.
        """
        ...

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
        """The update after one network call. A pure function, which is traced by jit.

        Args:
          state: the latent that the network received, and the history.
          prediction: the (guided) prediction of the network, shape and type of z. `process.convert` gives x̂0 or ε̂ from
            it, with the α and σ of the level at which it was made: `now` if evaluation is 0, else `then`.
          kind: its prediction kind, of `process.KINDS`.
          now, then: α, σ and log SNR of this level and the next; scalars, traced. A sampler without history may also be
            given shapes that broadcast against z.
          eta: η, between 0 and 1, traced.
          noise: standard normal noise, shape of z, the same in all evaluations of a step; None if there is none.
          evaluation: number of the network call within the step, from 0. A Python int: both sides of an `if` may return
            different things.

        Returns:
          The new state.
        """
        ...


def adds_noise(sampler: Sampler, eta: float) -> bool:
    """Whether the steps of a sampler read noise for this η."""
    return sampler.noise == "always" or (sampler.noise == "eta" and eta > 0)


BUILT_IN = ("ddim", "ancestral", "euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc")


class _Samplers(Registry[Sampler]):
    def add(self, name: str, entry: Sampler) -> None:
        if isinstance(entry, type):
            raise ValueError(f"sampler {name!r}: {entry.__name__} is a class; register an object, {entry.__name__}()")
        if missing := [part for part in ("evaluations", "noise", "init", "step") if not hasattr(entry, part)]:
            raise ValueError(f"sampler {name!r}: {type(entry).__name__} has no {', '.join(missing)}; see Sampler")
        super().add(name, entry)


SAMPLERS: Registry[Sampler] = _Samplers("sampler", {name: f"codi_jax.diffusion.samplers.{name}" for name in BUILT_IN})
register = SAMPLERS.register
