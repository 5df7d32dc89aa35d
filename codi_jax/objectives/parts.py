"""Parts of an output in training, so that its denoiser learns to go on from what is kept of it.

    z_in = m z_kept + (1 - m) z_t,    ‖(1 - m) (target - f_θ(z_in, t))‖² / mean(1 - m)          (1)

z_kept is the codec's latent of a value of which all else is hidden, as sampling makes it of what a user gives: the
latent of a cell depends on the surroundings of its pixels. m is a box of cells, or all but a box: along each axis that
parts may cut, a random interval or all of it. `sampling.held` has the same z_in, for the outputs that
`config.generate.clean_parts` names. The timestep is that of the other cells.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.modalities.base import Modality
from codi_jax.rng import fold
from codi_jax.types import Array


@flax.struct.dataclass
class KeptPart:
    """What is kept of each sample of a batch.

    Attributes:
      z: latents of media of which the rest is hidden, [B, *latent_shape].
      mask: 1 where they are kept, 0 elsewhere; for samples of which nothing is kept 0 everywhere, [B, *latent_shape].
    """

    z: Array
    mask: Array

    def shown(self, z_t: Array) -> Array:
        """What the denoiser sees in place of z_t."""
        return jnp.where(self.mask > 0, self.z, z_t)

    def without_kept(self, prediction: Array, target: Array) -> tuple[Array, Array]:
        """The target with errors in the other cells alone, and the weight [B] that makes their mean one over these."""
        generated = 1 - self.mask.mean(tuple(range(1, self.mask.ndim)))
        return jnp.where(self.mask > 0, prediction, target), 1 / generated


def cut_axes(modality: Modality) -> tuple[int, ...]:
    """The axes of a latent along which parts can be cut: those of two cells or more."""
    return tuple(axis for axis in modality.part_axes if modality.latent_shape[axis] > 1)


def masks(key: jax.Array, size: int, shape: tuple[int, ...], share: float) -> Array:
    """m of (1) for `size` samples, float32 [size, *shape].

    Args:
      key: PRNG key.
      size: number of samples.
      shape: the numbers of cells along the axes that parts may cut, 2 or more.
      share: probability that a part of a sample is kept; of the others none is.
    """
    cut = jax.random.bernoulli(fold(key, "cut"), 0.5, (size, len(shape)))
    one = jax.nn.one_hot(jax.random.randint(fold(key, "axis"), (size,), 0, len(shape)), len(shape)) > 0
    cut = jnp.where(cut.any(1, keepdims=True), cut, one)  # a box that is everything keeps all or nothing
    inside = jnp.ones((size, *shape), bool)
    for axis, cells in enumerate(shape):
        first, length = _interval(fold(key, f"interval {axis}"), size, cells)
        place = jnp.arange(cells)
        interval = (place >= first[:, None]) & (place < (first + length)[:, None])
        along = (size, *(cells if k == axis else 1 for k in range(len(shape))))
        inside &= jnp.where(cut[:, axis, None], interval, True).reshape(along)
    kept = jnp.where(jax.random.bernoulli(fold(key, "outside"), 0.5, (size, *(1,) * len(shape))), inside, ~inside)
    some = jax.random.bernoulli(fold(key, "some"), share, (size, *(1,) * len(shape)))
    return (kept & some).astype(jnp.float32)


def _interval(key: jax.Array, size: int, cells: int) -> tuple[Array, Array]:
    """The first cells and the lengths of intervals of 1 to cells - 1 cells, [size] each, uniform in both."""
    length = jax.random.randint(fold(key, "length"), (size,), 1, cells)
    return jax.random.randint(fold(key, "first"), (size,), 0, cells - length + 1), length


def draw(codi: CoDi, name: str, variables: dict[str, Any], media: Any, key: jax.Array, share: float) -> KeptPart:
    """Draws what is kept of a batch of media of a modality; see `masks`."""
    modality = codi[name]
    axes, latent = cut_axes(modality), modality.latent_shape
    size = jax.tree.leaves(media)[0].shape[0]
    mask = masks(fold(key, name, "parts"), size, tuple(latent[axis] for axis in axes), share)
    mask = mask.reshape(size, *(latent[axis] if axis in axes else 1 for axis in range(len(latent))))
    z, _ = modality.encode(variables, modality.hide(media, mask))
    return KeptPart(jax.lax.stop_gradient(z.astype(jnp.float32)), jnp.broadcast_to(mask, z.shape))
