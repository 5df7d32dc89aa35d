"""Training of a judge, as an objective."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from codi_jax.codi import CoDi
from codi_jax.config import from_dict
from codi_jax.evaluate import judges
from codi_jax.objectives.base import SETTINGS, LossTerms, StageSpec, register
from codi_jax.objectives.step import TrainStep, make_train_step
from codi_jax.rng import fold
from codi_jax.types import Array


@register("judge")
@dataclasses.dataclass(frozen=True, eq=False)
class JudgeObjective:
    """Trains the judge of one modality on {"media": [B, …], "factors": {factor: [B]}}.

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
    outputs: tuple[str, ...] = ()
    batch_multiple: int = 1

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

    def batch(self, samples: Mapping[str, Any]) -> dict[str, Any]:
        modality = self.codi[self.name]
        factors = {factor: samples["factors"][factor] for factor in self.config.factors}
        return {"media": modality.codec_input(modality.prepare(samples)), "factors": factors}

    def example(self, size: int) -> dict[str, Any]:
        modality = self.codi[self.name]
        factors = {factor: jnp.zeros((size,), jnp.int32) for factor in self.config.factors}
        return {"media": modality.codec_input(modality.example(size)), "factors": factors}

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        return LossTerms(*judges.loss(judges.Judge(self.config), self.components[0], variables, batch, key))

    def validation(self, variables: dict, batch: dict, key: jax.Array) -> dict[str, Array]:
        return self.loss(variables, batch, key).scalars()

    def statistics(self, variables: dict, batches: Iterable[dict]) -> dict[str, Any]:
        del variables, batches
        return {}

    def train_step(self, tx: optax.GradientTransformation, ema_decay: float, **options: Any) -> TrainStep:
        return make_train_step(self.loss, tx, ema_decay, accumulate=self.accumulate, **options)
