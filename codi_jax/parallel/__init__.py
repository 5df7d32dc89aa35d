"""The device mesh, and the rules that shard parameters and batches over it."""

from codi_jax.parallel.mesh import MeshConfig, make_mesh
from codi_jax.parallel.sharding import (
    ShardingConfig,
    batch_rows,
    batch_sharding,
    in_host_memory,
    place_batch,
    replicate,
    replicated,
    resolve,
)

__all__ = [
    "MeshConfig",
    "ShardingConfig",
    "batch_rows",
    "batch_sharding",
    "in_host_memory",
    "make_mesh",
    "place_batch",
    "replicate",
    "replicated",
    "resolve",
]
