"""Contrastive losses of the global batch on a ring of devices, without the full matrix of logits.

    S_ij = s · a_i·b_j                                          a, b [B, D] of unit norm, s the scale
    InfoNCE   L = (½ Σ_i lse_j S_ij + ½ Σ_j lse_i S_ij - Σ_i S_ii) / B
    SigLIP    L = (Σ_ij softplus(S_ij + β) - Σ_i (S_ii + β)) / B

which equal the losses of `bridging` (there as published), written so that the sums over all pairs need no labels. Every
device keeps its rows of a; the rows of b travel around the ring of n devices. In n steps each device computes all its
blocks [B/n, B/n] of S:

    forward     lse_j S_ij stays with a_i, lse_i S_ij travels with b_j
    backward    dL/da_i stays, dL/db_j travels; the blocks are computed again

So the memory of a device depends on the number of its rows, B/n, alone, also in the backward pass. Automatic
differentiation would keep the residuals of all n steps, hence the custom VJP.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from codi_jax.parallel.ring import scan_ring
from codi_jax.parallel.sharding import BATCH_AXES
from codi_jax.types import Array


class Contrast(NamedTuple):
    """The loss, and the retrieval accuracy: the fraction of rows i for which no b_j is nearer to a_i than b_i."""

    loss: Array
    retrieval: Array


def infonce(a: Array, b: Array, scale: Array) -> Contrast:
    """Symmetric InfoNCE of unit-norm embeddings [B, D], row i of a matching row i of b.

    B is split over the batch axes of the current mesh; without a mesh there is a single block.
    """
    return _contrast(a, b, scale, jnp.float32(0), "infonce")


def siglip(a: Array, b: Array, scale: Array, bias: Array) -> Contrast:
    """Pairwise sigmoid loss of unit-norm embeddings [B, D], split as for `infonce`; `bias` is β."""
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
    """(Σ loss terms, number of retrieved rows) over all rows; `a` and `b` are the rows of this device."""
    if axes:  # device-varying scalars, so that their gradients are summed over devices
        scale, bias = (jax.lax.pcast(x, axes, to="varying") for x in (scale, bias))
    total, nearest = _pair_sums(a, b, scale, bias, kind, axes)
    positive = scale * jnp.sum(a * b, -1)
    # The tolerance covers another order of summation. A tie counts as retrieved.
    hits = jnp.sum(positive >= jax.lax.stop_gradient(nearest) - 1e-5 * scale)
    sums = total - jnp.sum(positive + bias), hits.astype(jnp.float32)
    return jax.lax.psum(sums, axes) if axes else sums


def _logits(a: Array, b: Array, scale: Array, bias: Array) -> Array:
    return scale * jnp.einsum("id,jd->ij", a, b, preferred_element_type=jnp.float32) + bias


def _like(x: Array, value: float) -> Array:
    """A vector [B] filled with `value`, device-varying as x [B, …] is."""
    return jnp.zeros_like(x[:, 0]) + value


def _all_pairs(a: Array, b: Array, scale: Array, bias: Array, kind: str, axes: tuple[str, ...]) -> tuple[Array, Array]:
    """The terms over all pairs, summed over this device's rows of a (and of b); and max_j S_ij of every a_i."""
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
    (rows, nearest), (_, columns) = scan_ring(
        block_fn, a, (_like(a, start), _like(a, -jnp.inf)), (b, _like(b, start)), axes
    )
    total = rows.sum() if kind == "siglip" else 0.5 * (rows.sum() + columns.sum())
    return (total, nearest), (a, b, scale, bias, rows, columns)


def _backward(kind, axes, residuals, cotangents):
    a, b, scale, bias, rows, columns = residuals

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

    zero = jnp.zeros_like(scale)
    (da, dscale, dbias), (_, _, db) = scan_ring(
        block_fn, a, (jnp.zeros_like(a), zero, zero), (b, columns, jnp.zeros_like(b)), axes
    )
    return tuple(cotangents[0] * x for x in (da, db, dscale, dbias))


_pair_sums = jax.custom_vjp(_all_pairs, nondiff_argnums=(4, 5))
_pair_sums.defvjp(_forward, _backward)
