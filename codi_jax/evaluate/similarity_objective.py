"""Training of similarity towers, as an objective."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import optax

from codi_jax.codi import CoDi
from codi_jax.config import from_dict
from codi_jax.evaluate import similarity
from codi_jax.objectives.base import SETTINGS, LossTerms, StageSpec, refuse_accumulation, register
from codi_jax.objectives.batches import MediaBatches
from codi_jax.objectives.step import TrainStep, make_train_step
from codi_jax.types import Array


@register("similarity")
@dataclasses.dataclass(frozen=True, eq=False)
class SimilarityObjective:
    """Trains the towers of all modalities of a batch {modality: media} on all pairs of modalities.

    Attributes:
      codi: the model; the towers have the architecture of its prompt encoders.
      modalities: modalities of a batch.
      config: config of the loss.
    """

    codi: CoDi
    modalities: tuple[str, ...]
    config: similarity.SimilarityConfig
    accumulate: int = 1
    outputs: tuple[str, ...] = ()
    batch_multiple: int = 1

    @classmethod
    def from_stage(cls, codi: CoDi, stage: StageSpec) -> "SimilarityObjective":
        config = from_dict(similarity.SimilarityConfig, stage.settings, SETTINGS)
        refuse_accumulation(stage, "similarity")
        return cls(codi, stage.modalities, config)

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(similarity.component(name) for name in self.modalities)

    def init(self, key: jax.Array, components: tuple[str, ...]) -> dict[str, Any]:
        return similarity.init(self.codi, key, components)

    def batch(self, samples: Any) -> dict[str, Any]:
        return MediaBatches(self.codi, self.modalities).batch(samples)

    def example(self, size: int) -> dict[str, Any]:
        return MediaBatches(self.codi, self.modalities).example(size)

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        return LossTerms(*similarity.loss(self.codi, self.config, variables, batch, key))

    def validation(self, variables: dict, batch: dict, key: jax.Array) -> dict[str, Array]:
        return self.loss(variables, batch, key).scalars()

    def statistics(self, variables: dict, batches: Iterable[dict]) -> dict[str, Any]:
        del variables, batches
        return {}

    def train_step(self, tx: optax.GradientTransformation, ema_decay: float, **options: Any) -> TrainStep:
        return make_train_step(self.loss, tx, ema_decay, **options)
