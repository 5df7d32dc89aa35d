"""A stage's train step, from the shapes of its parameters alone: the loop runs it, `codi-jax plan` only compiles it.

Where the mesh splits nothing of the train state, the state is packed (`optim.packed`); where it splits some, vectors
would have to be gathered in every step, and the state stays a tree.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from codi_jax.config import ConfigError
from codi_jax.objectives.step import TrainStep, make_train_step
from codi_jax.optim import TrainState, make_optimizer, partition, select, summary
from codi_jax.optim.optimizer import decayed, multipliers, packing
from codi_jax.optim.packed import Layout
from codi_jax.optim.precision import precision
from codi_jax.parallel import batch_sharding, on_host, replicated, resolve
from codi_jax.parallel.sharding import Table, batch_ways, split_context
from codi_jax.train.recipe import Run
from codi_jax.train.tasks import Task, make_task


@dataclasses.dataclass(frozen=True)
class StageProgram:
    """Attributes:
    shardings: of every parameter; `table` says why.
    trainable: which parameters train; `summary` says how.
    cast_frozen: frozen parameters -> the types in which they are kept, see `optim.precision`.
    create: trained parameters -> their fresh train state.
    layout: shardings of that state.
    step: see `objectives.step`.
    """

    shardings: Any
    table: Table
    trainable: Any
    summary: str
    cast_frozen: Callable[[Any], Any]
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
      ConfigError: a rule (of sharding, training, learning rate or precision) that does not fit the parameters, too
        little of them that the mesh splits, or a batch whose parts its devices cannot share.
    """
    config, where = run.stage(name), f"config.stages.{name}"
    rows = batch_ways(mesh.shape)
    if config.accumulate > 1 and config.batch_size % (rows * config.accumulate):
        raise ConfigError(
            f"{where}.accumulate: a batch of {config.batch_size} has no {config.accumulate} parts that {rows} devices "
            "(data × fsdp) can share evenly"
        )
    shardings, table = resolve(params, mesh, run.config.sharding)
    table.require(mesh, run.config.sharding.least_sharded)
    trainable = select(params, config.trainable, f"{where}.trainable")
    trained, _ = partition(params, trainable)
    cast_frozen, cast_for_compute = precision(params, trainable, config.precision, f"{where}.precision")
    treated = summary(
        params, trainable, multipliers(config.optimizer, trained), decayed(config.optimizer, trained), depth=1
    )

    def update(packed: Layout | None) -> tuple[optax.GradientTransformation, Callable[[Any], TrainState]]:
        tx = make_optimizer(config.optimizer, config.steps, trained, packed)
        return tx, lambda params: TrainState.create(params, tx, layout=packed)

    everywhere = replicated(mesh)
    tx, create = update(None)
    layout, _ = resolve(jax.eval_shape(create, trained), mesh, run.config.sharding)
    if all(sharding.is_fully_replicated for sharding in jax.tree.leaves(layout)):
        tx, create = update(packing(config.optimizer, trained))
        layout = jax.tree.map(lambda _: everywhere, jax.eval_shape(create, trained))
    layout = layout.replace(**{field: on_host(getattr(layout, field)) for field in config.offload})
    # Left to itself the compiler may lay out the new state otherwise, and compile again for that. What is given has to
    # lie as it is to be used: anything else would be moved in every step, so it is an error.
    step = make_train_step(
        task.loss,
        tx,
        config.ema,
        accumulate=task.accumulate,
        cast_for_compute=cast_for_compute,
        batch_as=lambda batch: split_context(batch, mesh, run.config.sharding.context),
        offload=config.offload,
        in_shardings=(layout, partition(shardings, trainable)[1], everywhere, batch_sharding(mesh), everywhere),
        out_shardings=(layout, everywhere),
    )
    return StageProgram(shardings, table, trainable, treated, cast_frozen, create, layout, step)
