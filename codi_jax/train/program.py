"""A stage's train step, from the shapes of its parameters alone: the loop runs it, `codi-jax plan` only compiles it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from codi_jax.objectives.step import TrainStep, make_train_step
from codi_jax.optim import TrainState, make_optimizer, partition, select, summary
from codi_jax.optim.optimizer import decayed, multipliers
from codi_jax.parallel import resolve
from codi_jax.parallel.sharding import Table
from codi_jax.train.recipe import Run
from codi_jax.train.tasks import Task, make_task


@dataclasses.dataclass(frozen=True)
class StageProgram:
    """Attributes:
    shardings: of every parameter; `table` says why.
    trainable: which parameters train; `summary` says how.
    create: trained parameters -> their fresh train state.
    layout: shardings of that state.
    step: see `objectives.step`.
    """

    shardings: Any
    table: Table
    trainable: Any
    summary: str
    create: Callable[[Any], TrainState]
    layout: Any
    step: TrainStep


def task_of(run: Run, name: str) -> Task:
    """The task of a stage."""
    source = run.stage(name).source
    return make_task(run.codi, run.stage(name), encoded=not isinstance(source, str) or source in run.stages)


def stage_program(run: Run, name: str, task: Task, params: Any, mesh: Mesh) -> StageProgram:
    """The program of a stage on a mesh; of `params`, arrays or ShapeDtypeStructs, only the shapes count.

    Raises:
      ConfigError: a rule (of sharding, training or learning rate) that does not fit the parameters.
    """
    config = run.stage(name)
    shardings, table = resolve(params, mesh, run.config.sharding)
    trainable = select(params, config.train, f"config.stages.{name}.train")
    trained, _ = partition(params, trainable)
    tx = make_optimizer(config.optimizer, config.steps, trained)
    treated = summary(
        params, trainable, multipliers(config.optimizer, trained), decayed(config.optimizer, trained), depth=1
    )
    create = lambda p: TrainState.create(p, tx)  # noqa: E731
    layout, _ = resolve(jax.eval_shape(create, trained), mesh, run.config.sharding)
    # Left to itself the compiler may lay out the new state otherwise, and compile again for that.
    step = make_train_step(task.loss, tx, config.ema, out_shardings=(layout, None))
    return StageProgram(shardings, table, trainable, treated, create, layout, step)
