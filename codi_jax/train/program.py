"""A stage's train step, built from the shapes of its parameters alone: the loop runs it, `codi-jax plan` compiles it.

If the mesh shards nothing of the train state, the state is packed (`optim.packed`). If it shards some leaves, the state
stays a tree, since packed vectors would have to be gathered in every step.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from functools import partial

import jax
import optax
from jax.sharding import Mesh

from codi_jax.config import ConfigError
from codi_jax.nn import lora
from codi_jax.objectives.base import Objective, StageSpec, make_objective
from codi_jax.objectives.step import TrainStep
from codi_jax.optim import TrainState, make_optimizer, merge, partition, select, summary
from codi_jax.optim.lora import ranks
from codi_jax.optim.optimizer import decayed, multipliers, packing
from codi_jax.optim.packed import VectorLayout
from codi_jax.optim.precision import precision
from codi_jax.parallel import batch_sharding, compiler_options, in_host_memory, paths, replicated, resolve
from codi_jax.parallel.sharding import MeshLike, ShardingTable, num_batch_shards, split_context, unmatched_rules
from codi_jax.train import encoded
from codi_jax.train.recipe import Run, StageConfig
from codi_jax.types import PyTree


@dataclasses.dataclass(frozen=True)
class StageProgram:
    """The train step of a stage on a mesh.

    Attributes:
      shardings: of every parameter.
      table: the rules that `shardings` resulted from.
      trainable: tree of bool, whether a parameter is trained.
      summary: table of trained and frozen parameters.
      cast_frozen: casts frozen parameters to the dtypes in which they are stored, see `optim.precision`.
      create: trained parameters -> the initial train state.
      layout: shardings of that state.
      step: see `objectives.step`.
    """

    shardings: PyTree
    table: ShardingTable
    trainable: PyTree
    summary: str
    cast_frozen: Callable[[PyTree], PyTree]
    create: Callable[[PyTree], TrainState]
    layout: PyTree
    step: TrainStep


def objective_of(run: Run, name: str) -> Objective:
    """The objective of a stage, bound to the model and to the stage's settings."""
    stage = run.stage(name)
    stages, mixed = encoded.stages_of(run, stage.source), encoded.is_mixed(run, stage.source)
    has = [set(run.stage(name).modalities) for name in stages]
    lacking = tuple(m for m in stage.modalities if not all(m in modalities for modalities in has))
    spec = StageSpec(stage.modalities, stage.settings, bool(stages), mixed, stage.accumulate, lacking)
    return make_objective(stage.objective, run.codi, spec)


def check_objectives(run: Run, names: Iterable[str]) -> None:
    """Makes the objectives of stages, so that an invalid setting of the last one is found before the first one starts.

    Raises:
      ConfigError: the settings, the modalities or `accumulate` of a stage do not fit its objective, or its adapters do
        not fit the model.
    """
    for name in names:
        if run.stage(name).trains:
            try:
                objective = objective_of(run, name)
            except ConfigError as error:
                raise ConfigError(f"stage {name!r}: {error}") from None
            if run.stage(name).lora is not None:
                stage_shapes(run, name, objective)


def parameter_shapes(objective: Objective) -> PyTree:
    """The parameters of all components that an objective reads, as ShapeDtypeStructs."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda key: objective.init(key, objective.components), key)


def make_adapters(run: Run, name: str, params: PyTree) -> Callable[[jax.Array], PyTree]:
    """A function from a key to the initial adapters of a stage, none unless it trains adapters.

    Args:
      run, name: the stage.
      params: its parameters, arrays or ShapeDtypeStructs.

    Raises:
      ConfigError: its rules do not fit the parameters, see `optim.lora.ranks`.
    """
    config = run.stage(name).lora
    if config is None:
        return lambda key: {}
    found = ranks(params, config, f"config.stages.{name}.lora.rules")
    return lambda key: lora.init(key, params, found, config.alpha)


def stage_shapes(run: Run, name: str, objective: Objective) -> PyTree:
    """The parameters that a stage reads, and its adapters, as ShapeDtypeStructs."""
    params = parameter_shapes(objective)
    adapters = jax.eval_shape(make_adapters(run, name, params), jax.eval_shape(lambda: jax.random.key(0)))
    return merge(params, adapters)


def _trainable(config: StageConfig) -> tuple[str, ...]:
    return config.trainable if config.lora is None else lora.TRAINED


@functools.lru_cache(maxsize=4)
def check_sharding_rules(run: Run) -> None:
    """Compares the sharding rules with the parameters and train states of all stages of the recipe.

    Raises:
      ConfigError: a rule matches none of them.
    """
    if not run.config.sharding.rules:
        return
    found: set[str] = set()
    for name in (n for n in run.order if run.stage(n).trains):
        objective, config = objective_of(run, name), run.stage(name)
        params = stage_shapes(run, name, objective)
        trained, _ = partition(params, select(params, _trainable(config), f"config.stages.{name}.trainable"))
        tx = make_optimizer(config.optimizer, config.steps, trained)
        found |= {*paths.flatten(params), *paths.flatten(jax.eval_shape(partial(TrainState.create, tx=tx), trained))}
    if unmatched := unmatched_rules(found, run.config.sharding):
        raise ConfigError(f"config.sharding.rules: no parameter of any stage matches {', '.join(map(repr, unmatched))}")


def stage_program(run: Run, name: str, objective: Objective, params: PyTree, mesh: MeshLike) -> StageProgram:
    """The program of a stage on a mesh.

    Args:
      run, name: the stage.
      objective: of the stage.
      params: arrays or ShapeDtypeStructs, adapters among them; only shapes and dtypes are used.
      mesh: the mesh.

    Raises:
      ConfigError: an unknown compiler option; a rule (of sharding, training, learning rate or precision) does not fit
        the parameters, the mesh shards less of them than the config asks for, or its devices cannot share a microbatch
        evenly.
    """
    config, where = run.stage(name), f"config.stages.{name}"
    if isinstance(mesh, Mesh):
        compiler_options.check(run.config.compiler_options, mesh)
    rows = num_batch_shards(mesh.shape)
    if config.accumulate > 1 and config.batch_size % (rows * config.accumulate):
        raise ConfigError(
            f"{where}.accumulate: batch_size {config.batch_size} is not divisible by {config.accumulate} microbatches "
            f"× {rows} devices (data × fsdp)"
        )
    shardings, table = resolve(params, mesh, run.config.sharding)
    table.require(mesh, run.config.sharding.min_sharded_fraction)
    trainable = select(params, _trainable(config), f"{where}.trainable")
    trained, _ = partition(params, trainable)
    kept_apart = config.lora is not None and not config.lora.merge  # then the components themselves are not saved
    saved = jax.tree.map(lambda _: False, trainable) if kept_apart else trainable
    cast_frozen, cast_for_compute = precision(params, saved, config.precision, f"{where}.precision")
    parameter_table = summary(
        params, trainable, multipliers(config.optimizer, trained), decayed(config.optimizer, trained), depth=1
    )

    def update(packed: VectorLayout | None) -> tuple[optax.GradientTransformation, Callable[[PyTree], TrainState]]:
        tx = make_optimizer(config.optimizer, config.steps, trained, packed)
        return tx, lambda params: TrainState.create(params, tx, layout=packed)

    replicated_sharding = replicated(mesh)
    tx, create = update(None)
    layout, _ = resolve(jax.eval_shape(create, trained), mesh, run.config.sharding)
    if all(sharding.is_fully_replicated for sharding in jax.tree.leaves(layout)):
        tx, create = update(packing(config.optimizer, trained))
        layout = jax.tree.map(lambda _: replicated_sharding, jax.eval_shape(create, trained))
    layout = layout.replace(**{field: in_host_memory(getattr(layout, field)) for field in config.offload})
    # Without out_shardings the compiler may choose other shardings for the new state, and then compile the next step
    # again. With in_shardings an argument in another sharding is an error; otherwise it would be moved in every step.
    step = objective.train_step(
        tx,
        config.ema,
        cast_for_compute=lambda params: cast_for_compute(lora.merged(params)),
        batch_as=lambda batch: split_context(batch, mesh, run.config.sharding.context),
        offload=config.offload,
        in_shardings=(
            layout,
            partition(shardings, trainable)[1],
            replicated_sharding,
            batch_sharding(mesh),
            replicated_sharding,
        ),
        out_shardings=(layout, replicated_sharding),
        compiler_options=run.config.compiler_options or None,
    )
    return StageProgram(shardings, table, trainable, parameter_table, cast_frozen, create, layout, step)
