"""A batch that does not fit, part by part.

    g = 1/n Σ_k ∇ L(part k)              a loss that is a mean over samples: gradient accumulation
    e = [C(part k)]_k                    embeddings of a loss over all pairs: computed part by part, in the backward
                                         pass once more ("GradCache", Gao et al. 2021), the loss on all of them

Part k has the rows k, k + n, k + 2n, …: so every device's rows fall into parts of its own, and nothing moves between
devices. On CPU the parts are written out one after the other, since XLA is slow at convolutions inside a loop there.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from codi_jax.parallel.sharding import BATCH_AXES
from codi_jax.rng import fold
from codi_jax.types import Array


def split(batch: Any, n: int) -> Any:
    """Leaves [B, …] as [n, B/n, …]; a scalar is in every part."""
    mesh = jax.sharding.get_abstract_mesh()

    def part(x: Array) -> Array:
        if jnp.ndim(x) == 0:
            return jnp.broadcast_to(x, (n,))
        x = x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1)
        if mesh.empty:
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(None, BATCH_AXES)))

    return jax.tree.map(part, batch)


def _part(parts: Any, k: int) -> Any:
    return jax.tree.map(lambda x: x[k], parts)


def _written_out() -> bool:
    mesh = jax.sharding.get_abstract_mesh()
    return (jax.default_backend() if mesh.empty else mesh.abstract_device.platform) == "cpu"


def _fold(function: Callable[[Any, Any], Any], start: Any, parts: Any, n: int) -> Any:
    """function(… function(start, part 0) …, part n-1), one part at a time."""
    if not _written_out():
        return jax.lax.scan(lambda carry, part: (function(carry, part), None), start, parts)[0]
    for k in range(n):
        part, start = jax.lax.optimization_barrier((_part(parts, k), start))  # not before the part before is done
        start = function(start, part)
    return start


def mean_gradients(value_and_grad: Callable[[Any, Array], Any], batch: Any, key: Array, n: int) -> Any:
    """Mean over n parts of ((loss, metrics), gradients) = value_and_grad(part, key of the part)."""
    parts = {"rows": split(batch, n), "k": jnp.arange(n)}

    def one(part: Any) -> Any:
        return value_and_grad(part["rows"], fold(key, "part", part["k"]))

    first = jax.eval_shape(one, _part(parts, 0))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
    total = _fold(lambda sums, part: jax.tree.map(jnp.add, sums, one(part)), nothing, parts, n)
    return jax.tree.map(lambda x: x / n, total)


def embedded(embed: Callable[[Any], Array], batch: Any, n: int) -> Array:
    """Embeddings [B, D] of a batch, made in n parts of which the backward pass keeps no activations."""
    if n == 1:
        return embed(batch)
    parts, again = split(batch, n), jax.checkpoint(embed)
    out = jnp.stack([again(_part(parts, k)) for k in range(n)]) if _written_out() else jax.lax.map(again, parts)
    return out.swapaxes(0, 1).reshape(-1, out.shape[-1])
