"""Prompt encoders that read parts: of a part of a value they say what they said of the whole.

    L = mean ‖f_θ(m x) - f_0(x)‖²                                                    (1)

f_0 is the prompt encoder, and f_θ another one, which starts as a copy (`init_from`). m x is a value of which all but a
part is hidden as sampling hides it of what a user gives (`sampling.given`), for a part that is kept is a prompt of its
modality, too. Both embeddings have unit norm, so f_θ learns the direction of the mean of what the part can be a part
of; centre and gain (`bridging.prompt_statistics`) are those of f_0, since it is the same space.

f_θ is not f_0: one encoder for both, trained on whole values, too, forgot combinations that it had not been shown. From
prompts in combinations held out of training .85 of the outputs had the right digit (packaged judges), .94 before.

m is a box of cells of the latent, or all but a box: along each axis that parts may cut, a random interval or all of it.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, config_class, from_dict
from codi_jax.modalities.base import PARTS, Modality
from codi_jax.objectives.base import SETTINGS, BatchObjective, LossTerms, StageSpec, loss_scalars, register
from codi_jax.objectives.batches import MediaBatches
from codi_jax.rng import fold
from codi_jax.types import Array


def cut_axes(modality: Modality) -> tuple[int, ...]:
    """The axes of a latent along which parts can be cut: those of two cells or more."""
    return tuple(axis for axis in modality.part_axes if modality.latent_shape[axis] > 1)


def masks(key: jax.Array, size: int, shape: tuple[int, ...]) -> Array:
    """m of (1) for `size` samples, float32 [size, *shape].

    Args:
      key: PRNG key.
      size: number of samples.
      shape: the numbers of cells along the axes that parts may cut, 2 or more.
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
    outside = jax.random.bernoulli(fold(key, "outside"), 0.5, (size, *(1,) * len(shape)))
    return (inside ^ outside).astype(jnp.float32)


def _interval(key: jax.Array, size: int, cells: int) -> tuple[Array, Array]:
    """The first cells and the lengths of intervals of 1 to cells - 1 cells, [size] each, uniform in both."""
    length = jax.random.randint(fold(key, "length"), (size,), 1, cells)
    return jax.random.randint(fold(key, "first"), (size,), 0, cells - length + 1), length


@config_class()
class PartsConfig:
    """The objective has no settings."""


@register("parts")
@dataclasses.dataclass(frozen=True, eq=False)
class PartsObjective(BatchObjective):
    """Trains the encoder of parts of one modality, which `reads_parts`.

    Attributes:
      codi: the model.
      name: the modality.
      accumulate: number of microbatches.
    """

    codi: CoDi
    name: str
    accumulate: int = 1

    outputs = ()
    batch_multiple = 1
    validation = loss_scalars

    @classmethod
    def from_stage(cls, codi: CoDi, stage: StageSpec) -> "PartsObjective":
        from_dict(PartsConfig, stage.settings, SETTINGS)
        if stage.encoded or len(stage.modalities) != 1:
            raise ConfigError("objective parts: expected one modality and a source of its media")
        (name,) = stage.modalities
        if PARTS not in codi[name].components:
            raise ConfigError(f"objective parts: {name} has no encoder of parts; config.model.modalities.{name} has to "
                              "have reads_parts=True")  # fmt: skip
        if not cut_axes(codi[name]):
            raise ConfigError(f"objective parts: no part of {name} can be kept")
        return cls(codi, name, stage.accumulate)

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(self.codi[self.name].components[role] for role in (PARTS, "prompt"))

    @property
    def batches(self) -> MediaBatches:
        return MediaBatches(self.codi, (self.name,))

    def init(self, key: jax.Array, components: tuple[str, ...]) -> dict[str, Any]:
        """See `Objective.init`."""
        return self.codi.init(key, components)

    def mask(self, key: jax.Array, size: int) -> Array:
        """m of (1), [size, …] with an axis for each of the latent, of length 1 where parts are not cut."""
        modality = self.codi[self.name]
        axes, latent = cut_axes(modality), modality.latent_shape
        mask = masks(fold(key, self.name, "parts"), size, tuple(latent[axis] for axis in axes))
        return mask.reshape(size, *(latent[axis] if axis in axes else 1 for axis in range(len(latent))))

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        modality, media = self.codi[self.name], batch[self.name]
        mask = self.mask(key, jax.tree.leaves(media)[0].shape[0])
        encoder, first = (modality.component(variables, role) for role in (PARTS, "prompt"))
        read = modality.embed(encoder, modality.hide(media, mask))
        wanted = jax.lax.stop_gradient(modality.embed(first, media))
        return LossTerms(jnp.square(read - wanted).sum(-1).mean(), {})

    def statistics(self, variables: dict, batches: Iterable[dict]) -> dict[str, Any]:
        """Centre and gain of the prompt encoder."""
        del batches
        modality = self.codi[self.name]
        return {modality.components[PARTS]: modality.constants(variables, "prompt")}
