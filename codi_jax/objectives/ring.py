"""Contrastive losses of the global batch on a ring of devices, without its matrix of logits.

    S_ij = s · a_i·b_j                                          a, b [B, D] of unit norm, s the scale
    InfoNCE   L = (½ Σ_i lse_j S_ij + ½ Σ_j lse_i S_ij - Σ_i S_ii) / B
    SigLIP    L = (Σ_ij softplus(S_ij + β) - Σ_i (S_ii + β)) / B

which are the losses of `bridging` (there as published), written so that what runs over all pairs knows no labels. Every
device keeps its own rows of a; the rows of b travel from device to device, and each meets all of them in n visits of a
block [B/n, B/n],

    forward     lse_j S_ij stays with a_i, lse_i S_ij travels with b_j
    backward    dL/da_i stays, dL/db_j travels; the blocks are computed again

so that a device holds O(B/n) numbers however many there are, in the backward pass too: what automatic differentiation
would keep of every visit grows with n, hence the rule of our own.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from codi_jax.parallel.sharding import BATCH_AXES
from codi_jax.types import Array


class Contrast(NamedTuple):
    """The loss, and the share of rows i for which no b_j is nearer to a_i than b_i."""

    loss: Array
    retrieval: Array


def infonce(a: Array, b: Array, scale: Array) -> Contrast:
    """Symmetric InfoNCE of unit-norm embeddings [B, D], row i of a matching row i of b.

    B is split over the batch axes of the mesh that is set; without one there is a single visit.
    """
    return _contrast(a, b, scale, jnp.float32(0), "infonce")


def siglip(a: Array, b: Array, scale: Array, bias: Array) -> Contrast:
    """Pairwise sigmoid loss of unit-norm embeddings [B, D]; `bias` is β, see `infonce`."""
    return _contrast(a, b, scale, bias, "siglip")


def _contrast(a: Array, b: Array, scale: Array, bias: Array, kind: str) -> Contrast:
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    if jax.sharding.get_abstract_mesh().empty:
        total, hits = _part(a, b, scale, bias, kind, ())
    else:
        rows, scalar = PartitionSpec(BATCH_AXES), PartitionSpec()
        part = partial(_part, kind=kind, axes=BATCH_AXES)
        sums = jax.shard_map(part, in_specs=(rows, rows, scalar, scalar), out_specs=(scalar, scalar))
        total, hits = sums(a, b, scale, bias)
    return Contrast(total / a.shape[0], hits / a.shape[0])


def _part(a: Array, b: Array, scale: Array, bias: Array, kind: str, axes: tuple[str, ...]) -> tuple[Array, Array]:
    """Sums over all rows, of which this device has some."""
    if axes:  # a scalar of every device's own, whose gradients are then summed
        scale, bias = (jax.lax.pcast(x, axes, to="varying") for x in (scale, bias))
    total, nearest = _all_pairs(a, b, scale, bias, kind, axes)
    own = scale * jnp.sum(a * b, -1)
    # Equal up to the order of summation: a tie counts, as it does for an argmax that stands on the diagonal.
    hits = jnp.sum(own >= jax.lax.stop_gradient(nearest) - 1e-5 * scale)
    sums = total - jnp.sum(own + bias), hits.astype(jnp.float32)
    return jax.lax.psum(sums, axes) if axes else sums


def _scan_ring(block_fn, a: Array, local: tuple, travelling: tuple, axes: tuple[str, ...]) -> tuple[tuple, tuple]:
    """Calls local, travelling = block_fn(a, local, travelling) once per device of the ring.

    After each call `travelling`, which belongs to the rows of b, moves to the next device; at the end it is back where
    it started.
    """
    if not axes:
        return block_fn(a, local, travelling)
    size = jax.lax.axis_size(axes)

    def ring_step(carry, _):
        local, travelling = block_fn(a, *carry)
        return (local, jax.lax.ppermute(travelling, axes, [(k, (k - 1) % size) for k in range(size)])), None

    return jax.lax.scan(ring_step, (local, travelling), length=size)[0]


def _logits(a: Array, b: Array, scale: Array, bias: Array) -> Array:
    return scale * jnp.einsum("id,jd->ij", a, b, preferred_element_type=jnp.float32) + bias


def _like(x: Array, value: float) -> Array:
    """A vector of one number a row of x, varying over devices as x does."""
    return jnp.zeros_like(x[:, 0]) + value


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _all_pairs(a: Array, b: Array, scale: Array, bias: Array, kind: str, axes: tuple[str, ...]):
    """What runs over all pairs, summed over this device's rows of a (and of b); max_j S_ij of every a_i."""
    return _forward(a, b, scale, bias, kind, axes)[0]


def _forward(a, b, scale, bias, kind, axes):
    def block_fn(a, local, travelling):
        (rows, nearest), (b, columns) = local, travelling
        logits = _logits(a, b, scale, bias)
        nearest = jnp.maximum(nearest, logits.max(1) - bias)
        if kind == "siglip":
            return (rows + jax.nn.softplus(logits).sum(1), nearest), (b, columns)
        rows = jnp.logaddexp(rows, jax.nn.logsumexp(logits, 1))
        return (rows, nearest), (b, jnp.logaddexp(columns, jax.nn.logsumexp(logits, 0)))

    start = 0.0 if kind == "siglip" else -jnp.inf
    (rows, nearest), (_, columns) = _scan_ring(
        block_fn, a, (_like(a, start), _like(a, -jnp.inf)), (b, _like(b, start)), axes
    )
    total = rows.sum() if kind == "siglip" else 0.5 * (rows.sum() + columns.sum())
    return (total, nearest), (a, b, scale, bias, rows, columns)


def _backward(kind, axes, kept, cotangents):
    a, b, scale, bias, rows, columns = kept

    def block_fn(a, local, travelling):
        (da, dscale, dbias), (b, columns, db) = local, travelling
        logits = _logits(a, b, scale, bias)
        if kind == "siglip":
            weight = jax.nn.sigmoid(logits)
        else:
            weight = 0.5 * (jnp.exp(logits - rows[:, None]) + jnp.exp(logits - columns))
        da += scale * weight @ b
        db += scale * weight.T @ a
        dscale += jnp.sum(weight * (logits - bias)) / scale
        return (da, dscale, dbias + weight.sum()), (b, columns, db)

    nothing = jnp.zeros_like(scale)
    (da, dscale, dbias), (_, _, db) = _scan_ring(
        block_fn, a, (jnp.zeros_like(a), nothing, nothing), (b, columns, jnp.zeros_like(b)), axes
    )
    return tuple(cotangents[0] * x for x in (da, db, dscale, dbias))


_all_pairs.defvjp(_forward, _backward)
