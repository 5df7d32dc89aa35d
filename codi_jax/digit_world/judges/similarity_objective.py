"""Training of similarity towers, as an objective."""

import dataclasses
from typing import Any

import jax

from codi_jax.codi import CoDi
from codi_jax.config import from_dict
from codi_jax.digit_world.judges import similarity
from codi_jax.objectives.base import (
    SETTINGS,
    BatchObjective,
    LossTerms,
    StageSpec,
    loss_scalars,
    no_statistics,
    refuse_accumulation,
    register,
)
from codi_jax.objectives.batches import MediaBatches


@register("similarity")
@dataclasses.dataclass(frozen=True, eq=False)
class SimilarityObjective(BatchObjective):
    """Trains the towers of all modalities of a batch {modality: media} on all pairs of modalities.

    Attributes:
      codi: the model; the towers have the architecture of its prompt encoders.
      modalities: modalities of a batch.
      config: config of the loss.
    """

    codi: CoDi
    modalities: tuple[str, ...]
    config: similarity.SimilarityConfig

    accumulate = 1
    outputs = ()
    batch_multiple = 1
    validation = loss_scalars
    statistics = no_statistics

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

    @property
    def batches(self) -> MediaBatches:
        return MediaBatches(self.codi, self.modalities)

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        return LossTerms(*similarity.loss(self.codi, self.config, variables, batch, key))
