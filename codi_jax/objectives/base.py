"""The protocol of an objective, and the registry in which a stage finds its objective by name.

An objective is a loss bound to a model and its settings, with all that training needs to run it: the components it
reads, their initial parameters, the batches it takes, its own jitted train step, and the constants it computes when
training is done. `train` knows objectives by this protocol alone.

A module outside of this package adds one by `register`; `config.stages.GROUP.NAME.objective` then names it.
"""

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import optax

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.objectives.step import TrainStep, make_train_step
from codi_jax.registry import Registry
from codi_jax.types import Array, PyTree

SETTINGS = "stages.*.settings"  # where an objective's settings are in the config, for errors


class LossTerms(NamedTuple):
    """The result of a loss.

    Attributes:
      loss: [], what is minimised.
      metrics: scalars by name that are reported, the terms of the loss among them.
    """

    loss: Array
    metrics: dict[str, Array]

    def scalars(self) -> dict[str, Array]:
        """All of them by name, the loss as "loss"."""
        return {"loss": self.loss, **self.metrics}


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """What a stage's config tells its objective.

    Attributes:
      modalities: the modalities of a batch.
      settings: the objective's own config.
      encoded: whether the source holds the results of `conditioning.encode` instead of media.
      mixed: whether it is several encoded sources, whose samples may lack some of the modalities.
      lacking: the modalities that some samples lack.
      accumulate: number of microbatches of a batch.
    """

    modalities: tuple[str, ...]
    settings: Mapping[str, Any]
    encoded: bool = False
    mixed: bool = False
    accumulate: int = 1
    lacking: tuple[str, ...] = ()


class Objective(Protocol):
    """A loss with what training it needs.

    `variables` is {"params": {component: …}, "constants": {component: …}}. `batch` is a pytree of arrays [B, …].
    """

    @property
    def components(self) -> tuple[str, ...]:
        """All components whose parameters the loss reads."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Modalities that the trained components generate, jointly; empty if they generate nothing."""
        ...

    @property
    def accumulate(self) -> int:
        """Number of microbatches over which the train step averages gradients."""
        ...

    @property
    def batch_multiple(self) -> int:
        """The batch size has to be a multiple of it."""
        ...

    def init(self, key: jax.Array, components: tuple[str, ...]) -> dict[str, Any]:
        """Initial parameters {component: …} of some of `components`."""
        ...

    def batch(self, samples: PyTree) -> PyTree:
        """A batch from stacked samples of the source, on the host. A row depends on its sample alone."""
        ...

    def example(self, size: int) -> PyTree:
        """A batch of zeros of `size` rows, for shapes."""
        ...

    def loss(self, variables: dict, batch: PyTree, key: jax.Array) -> LossTerms:
        """The loss of a batch."""
        ...

    def validation(self, variables: dict, batch: PyTree, key: jax.Array) -> dict[str, Array]:
        """Scalars of a held-out batch, "loss" among them."""
        ...

    def statistics(self, variables: dict, batches: Iterable[PyTree]) -> dict[str, Any]:
        """Constants {component: …} of what was trained, from batches of its data; {} if it has none."""
        ...

    def train_step(self, tx: optax.GradientTransformation, ema_decay: float, **options: Any) -> TrainStep:
        """The jitted train step; see `step.make_train_step`, which takes the options."""
        ...


class BatchFormat(Protocol):
    """The batches of an objective; see `objectives.batches`."""

    def batch(self, samples: PyTree) -> PyTree:
        """See `Objective.batch`."""
        ...

    def example(self, size: int) -> PyTree:
        """See `Objective.example`."""
        ...


class WithBatches(Protocol):
    """An objective with batches of its own: a field or a property."""

    @property
    def batches(self) -> BatchFormat:
        """Makes its batches from samples."""
        ...


class BatchObjective(abc.ABC):
    """The methods that are the same in every objective of this package, which has `batches`; none is overridden.

    Attributes:
      accumulate: see `Objective.accumulate`.
    """

    accumulate: int

    @abc.abstractmethod
    def loss(self, variables: dict, batch: PyTree, key: jax.Array) -> LossTerms:
        """See `Objective.loss`."""

    def batch(self: WithBatches, samples: PyTree) -> PyTree:
        """See `Objective.batch`."""
        return self.batches.batch(samples)

    def example(self: WithBatches, size: int) -> PyTree:
        """See `Objective.example`."""
        return self.batches.example(size)

    def train_step(self, tx: optax.GradientTransformation, ema_decay: float, **options: Any) -> TrainStep:
        """See `Objective.train_step`."""
        return make_train_step(self.loss, tx, ema_decay, accumulate=self.accumulate, **options)


# Methods that some of the objectives share: `validation = loss_scalars` in the body of a class.


def init_by_model(objective: Any, key: jax.Array, components: tuple[str, ...]) -> dict[str, Any]:
    """`init` of an objective all of whose components are the model's."""
    return objective.codi.init(key, components)


def loss_scalars(objective: Objective, variables: dict, batch: PyTree, key: jax.Array) -> dict[str, Array]:
    """`validation` that reports the training loss."""
    return objective.loss(variables, batch, key).scalars()


def no_statistics(objective: Objective, variables: dict, batches: Iterable[PyTree]) -> dict[str, Any]:
    """`statistics` of an objective that has none."""
    del objective, variables, batches
    return {}


class ObjectiveClass(Protocol):
    """A class of objectives, as `register` takes it."""

    def from_stage(self, codi: CoDi, stage: StageSpec) -> Objective:
        """The objective of a stage.

        Raises:
          ConfigError: its settings, its modalities or `accumulate` do not fit the objective.
        """
        ...


OBJECTIVES: Registry[ObjectiveClass] = Registry(
    "objective",
    {
        "codec": "codi_jax.objectives.codec",
        "bridging": "codi_jax.objectives.bridging",
        "ldm": "codi_jax.objectives.ldm",
        "latent_alignment": "codi_jax.objectives.latent_alignment",
        "timing": "codi_jax.objectives.timing",
        "distillation": "codi_jax.objectives.distillation",
        "parts": "codi_jax.objectives.parts",
        "judge": "codi_jax.digit_world.judges.judge_objective",
        "similarity": "codi_jax.digit_world.judges.similarity_objective",
    },
)


register = OBJECTIVES.register  # a class decorator


def make_objective(name: str, codi: CoDi, stage: StageSpec) -> Objective:
    """The objective of a stage.

    Raises:
      ConfigError: no objective has the name, or it does not fit the stage.
    """
    return OBJECTIVES.find(name).from_stage(codi, stage)


def refuse_lacking(stage: StageSpec, names: Iterable[str]) -> None:
    """Raises ConfigError if some samples lack a modality that the loss needs of all."""
    if lacking := [name for name in names if name in stage.lacking]:
        raise ConfigError(f"source: not all of its encode stages have {' and '.join(lacking)}, which the loss needs")


def refuse_accumulation(stage: StageSpec, what: str) -> None:
    """Raises ConfigError if a stage accumulates gradients over microbatches, which `what` does not allow."""
    if stage.accumulate > 1:
        raise ConfigError(f"stages.*.accumulate: {what} compares all samples of a batch, so it needs accumulate=1")
