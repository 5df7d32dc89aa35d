"""Training of a judge, as an objective."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.config import from_dict
from codi_jax.digit_world import judges
from codi_jax.modalities import Modality
from codi_jax.objectives.base import (
    SETTINGS,
    BatchObjective,
    LossTerms,
    StageSpec,
    loss_scalars,
    no_statistics,
    register,
)
from codi_jax.rng import fold


@dataclasses.dataclass(frozen=True, eq=False)
class JudgeBatches:
    """Batches {"media": [B, …], "factors": {factor: [B]}} of what the codec of a modality encodes.

    Attributes:
      modality: preprocesses the media.
      factors: names of the factors.
    """

    modality: Modality
    factors: tuple[str, ...]

    def batch(self, samples: Mapping[str, Any]) -> dict[str, Any]:
        """A batch from stacked samples of a source."""
        factors = {factor: samples["factors"][factor] for factor in self.factors}
        return {"media": self.modality.codec_input(self.modality.prepare(samples)), "factors": factors}

    def example(self, size: int) -> dict[str, Any]:
        """A batch of zeros."""
        factors = {factor: jnp.zeros((size,), jnp.int32) for factor in self.factors}
        return {"media": self.modality.codec_input(self.modality.example(size)), "factors": factors}


@register("judge")
@dataclasses.dataclass(frozen=True, eq=False)
class JudgeObjective(BatchObjective):
    """Trains the judge of one modality.

    Attributes:
      codi: the model, whose modality preprocesses the media.
      name: the modality.
      config: config of the judge.
      accumulate: number of microbatches.
    """

    codi: CoDi
    name: str
    config: judges.JudgeConfig
    accumulate: int = 1

    outputs = ()
    batch_multiple = 1
    validation = loss_scalars
    statistics = no_statistics

    @classmethod
    def from_stage(cls, codi: CoDi, stage: StageSpec) -> "JudgeObjective":
        (name,) = stage.modalities
        return cls(codi, name, from_dict(judges.JudgeConfig, stage.settings, SETTINGS), stage.accumulate)

    @property
    def components(self) -> tuple[str, ...]:
        return (judges.component(self.name),)

    def init(self, key: jax.Array, components: tuple[str, ...]) -> dict[str, Any]:
        media = self.example(1)["media"]
        return {c: judges.Judge(self.config).init(fold(key, c), media)["params"] for c in components}

    @property
    def batches(self) -> "JudgeBatches":
        return JudgeBatches(self.codi[self.name], tuple(self.config.factors))

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        return LossTerms(*judges.loss(judges.Judge(self.config), self.components[0], variables, batch, key))
