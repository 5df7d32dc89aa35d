"""Prompt encoders that read parts: of a part of a value they say what they said of the whole.

    L = mean ‖f_θ(m x) - f_0(x)‖²                                                    (1)

f_0 is the encoder as bridging alignment left it, and f_θ starts there. m x is a value of which all but a part is hidden
as sampling hides it of what a user gives (`sampling.given`), for a part that is kept is a prompt of its modality, too.
Both embeddings have unit norm, so f_θ learns the direction of the mean of what the part can be a part of. Of some
samples nothing is hidden, so that whole values keep their prompts; centre and gain (`bridging.prompt_statistics`) stay.

m is a box of cells of the latent, or all but a box: along each axis that parts may cut, a random interval or all of it.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, config_class, from_dict
from codi_jax.modalities.base import Modality
from codi_jax.objectives.base import SETTINGS, BatchObjective, LossTerms, StageSpec, loss_scalars, register
from codi_jax.objectives.batches import MediaBatches
from codi_jax.objectives.distillation import teacher_of
from codi_jax.rng import fold
from codi_jax.types import Array, PyTree


@config_class()
class PartsConfig:
    """`share` is that of the samples of which a part is hidden."""

    share: float = 0.75

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise ConfigError(f"share: expected a share of the samples between 0 and 1, got {self.share}")


def cut_axes(modality: Modality) -> tuple[int, ...]:
    """The axes of a latent along which parts can be cut: those of two cells or more."""
    return tuple(axis for axis in modality.part_axes if modality.latent_shape[axis] > 1)


def masks(key: jax.Array, size: int, shape: tuple[int, ...], share: float) -> Array:
    """m of (1) for `size` samples, float32 [size, *shape].

    Args:
      key: PRNG key.
      size: number of samples.
      shape: the numbers of cells along the axes that parts may cut, 2 or more.
      share: probability that a part of a sample is hidden; of the others all is kept.
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
    whole = jax.random.bernoulli(fold(key, "whole"), 1 - share, (size, *(1,) * len(shape)))
    return (kept | whole).astype(jnp.float32)


def _interval(key: jax.Array, size: int, cells: int) -> tuple[Array, Array]:
    """The first cells and the lengths of intervals of 1 to cells - 1 cells, [size] each, uniform in both."""
    length = jax.random.randint(fold(key, "length"), (size,), 1, cells)
    return jax.random.randint(fold(key, "first"), (size,), 0, cells - length + 1), length


@register("parts")
@dataclasses.dataclass(frozen=True, eq=False)
class PartsObjective(BatchObjective):
    """Trains the prompt encoder of one modality to read parts.

    Attributes:
      codi: the model.
      name: the modality.
      config: of what is hidden.
      accumulate: number of microbatches.
    """

    codi: CoDi
    name: str
    config: PartsConfig
    accumulate: int = 1

    outputs = ()
    batch_multiple = 1
    validation = loss_scalars

    @classmethod
    def from_stage(cls, codi: CoDi, stage: StageSpec) -> "PartsObjective":
        config = from_dict(PartsConfig, stage.settings, SETTINGS)
        if stage.encoded or len(stage.modalities) != 1:
            raise ConfigError("objective parts: expected one modality and a source of its media")
        if not cut_axes(codi[stage.modalities[0]]):
            raise ConfigError(f"objective parts: no part of {stage.modalities[0]} can be kept")
        return cls(codi, stage.modalities[0], config, stage.accumulate)

    @property
    def _encoder(self) -> str:
        return self.codi[self.name].components["prompt"]

    @property
    def components(self) -> tuple[str, ...]:
        return self._encoder, teacher_of(self._encoder)

    @property
    def batches(self) -> MediaBatches:
        return MediaBatches(self.codi, (self.name,))

    def init(self, key: jax.Array, components: tuple[str, ...]) -> dict[str, PyTree]:
        """See `Objective.init`; f_0 has the shapes of f_θ, and `init_from` says what it is a copy of."""
        made = self.codi.init(key, (self._encoder,))[self._encoder]
        return dict.fromkeys(components, made)

    def mask(self, key: jax.Array, size: int) -> Array:
        """m of (1), [size, …] with an axis for each of the latent, of length 1 where parts are not cut."""
        modality = self.codi[self.name]
        axes, latent = cut_axes(modality), modality.latent_shape
        mask = masks(fold(key, self.name, "parts"), size, tuple(latent[axis] for axis in axes), self.config.share)
        return mask.reshape(size, *(latent[axis] if axis in axes else 1 for axis in range(len(latent))))

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        modality, media = self.codi[self.name], batch[self.name]
        mask = self.mask(key, jax.tree.leaves(media)[0].shape[0])
        encoder, first = (variables["params"][name] for name in self.components)
        read = modality.embed(encoder, modality.hide(media, mask))
        wanted = jax.lax.stop_gradient(modality.embed(first, media))
        return LossTerms(jnp.square(read - wanted).sum(-1).mean(), {})

    def statistics(self, variables: dict, batches: Iterable[dict]) -> dict[str, Any]:
        """Centre and gain as they were."""
        del batches
        return {self._encoder: variables["constants"][self._encoder]}
