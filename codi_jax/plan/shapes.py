"""The arguments of a stage's step as sharded ShapeDtypeStructs, without allocating anything."""

import functools
import math

import jax
from jax.sharding import AbstractMesh

from codi_jax.config import ConfigError
from codi_jax.nn import lora
from codi_jax.objectives.base import Objective
from codi_jax.optim import merge, partition
from codi_jax.optim.packed import unpacked
from codi_jax.parallel import batch_sharding, replicated
from codi_jax.parallel.mesh import AXES
from codi_jax.parallel.sharding import MeshLike, num_batch_shards
from codi_jax.train.program import StageProgram, objective_of, stage_program, stage_shapes
from codi_jax.train.recipe import Run
from codi_jax.types import PyTree


def step_of(run: Run, name: str, mesh: MeshLike, batch_size: int) -> tuple[StageProgram, tuple[PyTree, ...]]:
    """A stage's program and the arguments of its step (state, frozen, constants, batch, key), as ShapeDtypeStructs.

    Raises:
      ConfigError: the stage has no step (`encode`), or its batch cannot be split over the mesh.
    """
    if not run.stage(name).trains:
        raise ConfigError(f"stage {name!r} is an encode stage: it has no training step to plan")
    parts = num_batch_shards(mesh.shape)
    if batch_size % parts:
        raise ConfigError(f"stage {name!r}: a batch of {batch_size} cannot be split over {parts} devices (data × fsdp)")
    objective, key, params = _parameters(run, name)
    program = stage_program(run, name, objective, params, mesh)
    trained, frozen = partition(params, program.trainable)
    frozen = jax.eval_shape(program.cast_frozen, frozen)
    frozen = _placed(frozen, partition(program.shardings, program.trainable)[1])
    state = _placed(jax.eval_shape(program.create, trained), program.layout)
    constants = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), run.codi.default_constants())
    constants = _placed(constants, jax.tree.map(lambda _: replicated(mesh), constants))
    batch = jax.eval_shape(lambda: objective.example(batch_size))
    batch = _placed(batch, jax.tree.map(lambda _: batch_sharding(mesh), batch))
    return program, (state, frozen, constants, batch, key)


def kept_for_backward(run: Run, name: str) -> float:
    """Bytes per row of the batch that the forward pass of a stage's loss keeps for the backward pass.

    It is computed from shapes alone, as the difference of the residuals of the linearized loss for two batch sizes, so
    that residuals which do not depend on the batch, such as weights, cancel.
    """
    objective, _, _ = _parameters(run, name)
    parts = objective.batch_multiple
    grid = AbstractMesh((1,) * len(AXES), AXES)

    def residual_bytes(rows: int) -> int:
        _, (state, frozen, constants, batch, key) = step_of(run, name, grid, rows)

        def linearized(trained: PyTree, frozen: PyTree, constants: PyTree, batch: PyTree, key: PyTree) -> PyTree:
            def loss(trained: PyTree) -> PyTree:
                variables = {"params": lora.merged(merge(unpacked(trained), frozen)), "constants": constants}
                return objective.loss(variables, batch, key).loss

            return jax.vjp(loss, trained)[1]

        arguments = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (frozen, constants, batch, key))
        trained = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state.params)
        return sum(
            math.prod(x.shape) * x.dtype.itemsize
            for x in jax.tree.leaves(jax.eval_shape(linearized, trained, *arguments))
        )

    return (residual_bytes(2 * parts) - residual_bytes(parts)) / parts


@functools.lru_cache(maxsize=16)  # a sweep asks for one stage on many meshes, and tracing networks is slow
def _parameters(run: Run, name: str) -> tuple[Objective, PyTree, PyTree]:
    """The objective of a stage, and its key and its parameters as ShapeDtypeStructs."""
    objective, key = objective_of(run, name), jax.eval_shape(lambda: jax.random.key(0))
    return objective, key, stage_shapes(run, name, objective)


def _placed(shapes: PyTree, shardings: PyTree) -> PyTree:
    return jax.tree.map(lambda x, to: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=to), shapes, shardings)


def bytes_per_device(tree: PyTree) -> int:
    """Bytes of arrays on one device, from sharded ShapeDtypeStructs; arrays in host memory do not count."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
        if leaf.sharding is not None and leaf.sharding.memory_kind != "pinned_host"
    )
