"""Microbatches, for batches that do not fit in memory.

    g = 1/n Σ_k ∇ L(part k)              gradient accumulation, for a loss that is a mean over samples
    e = [C(part k)]_k                    for a loss over all pairs: embeddings are computed by microbatch, and again in
                                         the backward pass ("GradCache", Gao et al. 2021); the loss is on all of them

Part k has the rows k, k + n, k + 2n, …, so that each device's rows stay on the device. On CPU the loop over parts is
unrolled, since XLA on CPU runs convolutions inside a loop slowly.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from codi_jax.parallel.sharding import BATCH_AXES
from codi_jax.rng import fold
from codi_jax.types import Array, PyTree


def split(batch: PyTree, n: int) -> PyTree:
    """Splits leaves [B, …] into [n, B/n, …]; scalars are repeated for every part."""
    mesh = jax.sharding.get_abstract_mesh()

    def part(x: Array) -> Array:
        if jnp.ndim(x) == 0:
            return jnp.broadcast_to(x, (n,))
        x = x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1)
        if mesh.empty:
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(None, BATCH_AXES)))

    return jax.tree.map(part, batch)


def _part(parts: PyTree, k: int) -> PyTree:
    return jax.tree.map(lambda x: x[k], parts)


def _unrolled() -> bool:
    mesh = jax.sharding.get_abstract_mesh()
    return (jax.default_backend() if mesh.empty else mesh.abstract_device.platform) == "cpu"


def _fold(function: Callable[[PyTree, PyTree], PyTree], start: PyTree, parts: PyTree, n: int) -> PyTree:
    """A fold: function(… function(start, part 0) …, part n-1), one part at a time."""
    if not _unrolled():
        return jax.lax.scan(lambda carry, part: (function(carry, part), None), start, parts)[0]
    for k in range(n):
        part, start = jax.lax.optimization_barrier((_part(parts, k), start))  # the parts run one after the other
        start = function(start, part)
    return start


def mean_gradients(value_and_grad: Callable[[PyTree, Array], PyTree], batch: PyTree, key: Array, n: int) -> PyTree:
    """Mean over n microbatches of ((loss, metrics), gradients) = value_and_grad(part, key of the part)."""
    parts = {"rows": split(batch, n), "k": jnp.arange(n)}

    def one(part: PyTree) -> PyTree:
        return value_and_grad(part["rows"], fold(key, "part", part["k"]))

    first = jax.eval_shape(one, _part(parts, 0))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
    total = _fold(lambda sums, part: jax.tree.map(jnp.add, sums, one(part)), zeros, parts, n)
    return jax.tree.map(lambda x: x / n, total)


def embedded(embed: Callable[[PyTree], Array], batch: PyTree, n: int) -> Array:
    """Embeddings [B, D] of a batch, computed in n microbatches that are rematerialized in the backward pass."""
    if n == 1:
        return embed(batch)
    parts, remat = split(batch, n), jax.checkpoint(embed)
    out = jnp.stack([remat(_part(parts, k)) for k in range(n)]) if _unrolled() else jax.lax.map(remat, parts)
    return out.swapaxes(0, 1).reshape(-1, out.shape[-1])
