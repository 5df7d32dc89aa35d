"""Outputs of which something is given: how sampling keeps it.

    x̂0 ← m z_given + (1 - m) x̂0                                                (1)

in every network call, after guidance; m is 1 in the cells of the latent that are kept. In these cells the latent starts
at α z_given + σ ε, so that (1) keeps it on the path from ε to z_given, where it ends. This is replacement (Song et al.,
arXiv 2011.13456, appendix I.2; Lugmayr et al., arXiv 2201.09865) of the prediction instead of the latent, which agrees
with every sampler, its history and its noise. Networks see the kept cells at the noise level of the others.

With a scale w > 0 of reconstruction guidance (Ho et al., arXiv 2204.03458, equation 7), what the network makes of the
kept cells draws the others along, before (1):

    x̂0 ← x̂0 - w α ∇_z ½ ‖m (x̂0(z) - z_given)‖²                                  (2)

through the network and its guidance, at about three times the cost of a step.

An output that is kept whole is at the clean level in every step: its V guides the others, and nothing of it is
computed. One that is edited starts at the noise level of a share of its steps, and waits there for the others.

No network is trained for this: in latent alignment the noise levels of a pair are drawn independently.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.diffusion.process import convert
from codi_jax.diffusion.schedules import Schedule
from codi_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Held:
    """What is given of one output.

    Attributes:
      z: normalised latents [n, *latent_shape], or [1, …] of all samples.
      mask: 1 where the latent is kept, float32 [n or 1, …], which broadcasts against z; None to keep nothing.
      share: of the steps that are taken, in [0, 1]: 1 starts at pure noise; 0 keeps all of z, whatever the mask says.
      reconstruction: w of (2).
    """

    z: Array | np.ndarray
    mask: Array | np.ndarray | None = None
    share: float = 1.0
    reconstruction: float = 0.0

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ConfigError(f"strength: expected 0 to 1, got {self.share}")

    def rows(self, rows: np.ndarray) -> "Held":
        """Those of some samples."""
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[rows]
        return dataclasses.replace(self, z=self.z if len(self.z) == 1 else self.z[rows], mask=mask)


@flax.struct.dataclass
class Kept:
    """The cells of one output that are kept: what a compiled step reads.

    Attributes:
      z: normalised latents [n, *latent_shape].
      mask: 1 where they are kept; broadcasts against z.
      reconstruction: w of (2), []; None for none, which compiles to steps without a gradient.
    """

    z: Array
    mask: Array
    reconstruction: Array | None = None

    def predict(self, denoise: Callable[[Array], Array], z_t: Array, t: Array, schedule: Schedule, kind: str) -> Array:
        """A prediction with (2) and (1).

        Args:
          denoise: z_t -> prediction [n, *latent_shape] of the denoiser, guided.
          z_t: the latent.
          t: its timestep, [1].
          schedule: the noise schedule.
          kind: of the prediction.
        """
        level = schedule.at(t, z_t)

        def as_kind(x0: Array) -> Array:
            return convert(x0, z_t, level.alpha, level.sigma, "x0", kind)

        exact = as_kind(self.z.astype(z_t.dtype))
        if self.reconstruction is None:
            return jnp.where(self.mask > 0, exact, denoise(z_t))
        x0, pull = jax.vjp(lambda z: convert(denoise(z), z, level.alpha, level.sigma, kind, "x0"), z_t)
        (gradient,) = pull(self.mask * (x0 - self.z))
        return jnp.where(self.mask > 0, exact, as_kind(x0 - self.reconstruction * level.alpha * gradient))


def start(held: Held, noise: Array, t: Any, schedule: Schedule) -> Array:
    """Where an output starts: noise, or what is given at the noise level of its first timestep.

    Args:
      held: what is given.
      noise: ε, [n, *latent_shape].
      t: the first timestep.
      schedule: the noise schedule.
    """
    given = jnp.broadcast_to(held.z, noise.shape)
    if held.share == 0:
        return given
    level = schedule.at(t)
    noisy = level.alpha * given + level.sigma * noise
    if held.share < 1:
        return noisy
    return noise if held.mask is None else jnp.where(held.mask > 0, noisy, noise)


def kept(held: Mapping[str, Held], n: int) -> dict[str, Kept]:
    """What steps keep: the outputs of which some cells are given, and others are not."""
    return {
        name: Kept(
            jnp.broadcast_to(of.z, (n, *of.z.shape[1:])),
            jnp.asarray(of.mask, jnp.float32),
            jnp.float32(of.reconstruction) if of.reconstruction else None,
        )
        for name, of in held.items()
        if of.mask is not None and of.share > 0
    }


def shares(held: Mapping[str, Held], outputs: Sequence[str]) -> dict[str, float]:
    """Output -> the share of its steps that are taken.

    Raises:
      ConfigError: nothing is left to generate.
    """
    found = {name: held[name].share if name in held else 1.0 for name in outputs}
    if not any(found.values()):
        raise ConfigError(f"{', '.join(outputs)}: all of it is given; name an output that is generated")
    return found
