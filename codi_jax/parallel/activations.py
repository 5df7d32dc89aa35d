"""How activations are split over the mesh: a rule for each logical axis.

    batch       data and fsdp, as the batches of a step are
    heads       tensor

A weight that is split over fsdp and an activation that is split over fsdp cannot both stay where they are. Without a
constraint the compiler often keeps the weight and gathers the whole batch on every device. Networks therefore constrain
the results of convolutions, dense layers and attention, and the weights are gathered instead. Axes that are not named
are left to the compiler, which propagates what the rules of parameters ('tensor') and of the batch ('context') say.
"""

import math

import jax
from jax.sharding import AxisType, PartitionSpec

from codi_jax.parallel.sharding import BATCH_AXES
from codi_jax.types import Array

LOGICAL_AXES = {"batch": BATCH_AXES, "heads": ("tensor",)}


def mesh_axes(name: str | None, length: int) -> tuple[str, ...]:
    """The axes of the current mesh that split a dimension of a length by its logical axis.

    () without a mesh, without a logical axis, if the parts were not equal, or inside `shard_map` over these axes.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(axis for axis in LOGICAL_AXES[name] if mesh.shape.get(axis, 1) > 1) if name else ()
    automatic = all(mesh.axis_types[mesh.axis_names.index(axis)] == AxisType.Auto for axis in axes)
    return axes if automatic and length % math.prod(mesh.shape[axis] for axis in axes) == 0 else ()


def shards(name: str, length: int) -> int:
    """The number of parts into which the current mesh splits a dimension of a length by its logical axis."""
    return math.prod(jax.sharding.get_abstract_mesh().shape[axis] for axis in mesh_axes(name, length))


def constrain(x: Array, *names: str | None) -> Array:
    """Constrains how an array is split over the current mesh; the array itself without one.

    Args:
      x: an array of a network.
      names: the logical axes of its first dimensions, None for a dimension that is left to the compiler.
    """
    free = PartitionSpec.UNCONSTRAINED
    spec = [mesh_axes(name, length) or free for name, length in zip(names, x.shape, strict=False)]
    if all(entry is free for entry in spec):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec, *(free,) * (x.ndim - len(spec))))
