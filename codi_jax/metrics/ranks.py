"""Ranks of retrieval: at which place a query finds what belongs to it, among all rows of another set of embeddings.

Of rows a_i, the items, and b_j, each of which belongs to the item g_j (its caption, say), with S the cosine,

    rank(a_i) = 1 + |{ j : g_j ≠ i,  S(a_i, b_j) ≥ max_{k : g_k = i} S(a_i, b_k) }|
    rank(b_j) = 1 + |{ i : i ≠ g_j,  S(a_i, b_j) ≥ S(a_{g_j}, b_j) }|

So the best of several captions counts, the others are no competitors, and **a tie counts as the worst rank**: of n
equal embeddings each has the rank n. S is in fixed point (`fixed_point`), so that equal rows tie exactly and ranks do
not depend on the number of devices.

The rows of a and b are split over the devices of a mesh. The rows of b travel on a ring (`parallel.ring`) with the
counts of their own ranks, and every device counts in tiles of its block of the matrix of all pairs. Nothing of its size
is held: a device holds 3 bytes for each number of its rows of a, twice that for those of b, and a few tiles.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from codi_jax.config import ConfigError
from codi_jax.metrics.fixed_point import digits, similarity, similarity_of_rows
from codi_jax.parallel import distributed
from codi_jax.parallel.ring import scan_ring
from codi_jax.parallel.sharding import BATCH_AXES, batch_parts, place_batch
from codi_jax.types import Array

TILE = 1024  # rows and columns of a tile


class Ranks(NamedTuple):
    """Of each of n queries: its rank, from 1, and the number of competitors that tie with it, int64 [n]."""

    rank: np.ndarray
    ties: np.ndarray


class _Rows(NamedTuple):
    """Rows of a or of b on one device.

    Attributes:
      digits: int8 [R, 3, D].
      best: S of the best match, int32 [R].
      item: int32 [R], -1 for a row that only fills up.
    """

    digits: Array
    best: Array
    item: Array


def ranks(
    a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None, mesh: Mesh | None = None, tile: int = TILE
) -> tuple[Ranks, Ranks]:
    """The ranks of all rows of a among those of b, and of all rows of b among those of a.

    If the mesh spans several processes, this is a collective: each passes the rows of its own items with all their
    captions, and gets their ranks among the rows of all.

    Args:
      a: [n, D], rows of any norm.
      b: [m, D].
      groups: int [m], the row of a that each row of b belongs to; every row of a has at least one. By default row i of
        b belongs to row i of a.
      mesh: from `parallel.make_mesh`; None for one device.
      tile: rows and columns of a tile.

    Raises:
      ConfigError: the arrays do not fit together, or the mesh does not split rows over the processes.
    """
    a, b, groups = check(a, b, groups)
    if tile < 1:
        raise ConfigError(f"tile: expected at least 1 row, got {tile}")
    parts, counts, size = _layout(mesh, a, b)
    if min(counts.sum(0)) < 1:
        raise ConfigError("no embeddings to rank")
    mine = jax.process_index() if len(counts) > 1 else 0
    first_item = counts[:mine, 0].sum()
    u, v = (digits(x.reshape(len(x), size), name) for x, name in ((a, "a"), (b, "b")))
    matches = similarity_of_rows(u[groups], v)
    best = np.full(len(a), np.iinfo(np.int32).min, np.int32)
    np.maximum.at(best, groups, matches)

    def pad(x: np.ndarray, most: int, fill: int = 0) -> np.ndarray:
        missing = _rows_per_part(most, parts, tile) * parts - len(x)
        return np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1), constant_values=fill)

    def rows(x: np.ndarray, best: np.ndarray, item: np.ndarray, most: int) -> _Rows:
        padded = {"digits": pad(x, most), "best": pad(best, most)}
        padded["item"] = pad((item + first_item).astype(np.int32), most, -1)
        return _Rows(**(jax.device_put(padded) if mesh is None else place_batch(padded, mesh)))

    most_a, most_b = counts.max(0).tolist()
    both = rows(u, best, np.arange(len(a)), most_a), rows(v, matches, groups, most_b)
    found = _count(*both, mesh=mesh, tile=tile)
    return _ranks_of(found[0], mesh, len(a)), _ranks_of(found[1], mesh, len(b))


def check(a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of `ranks` as float32 [n, D] and [m, D] and int64 [m].

    Raises:
      ConfigError: they do not fit together.
    """
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or (len(a) and not a.shape[1]):
        raise ConfigError(f"expected embeddings [n, D] and [m, D], got shapes {a.shape} and {b.shape}")
    if groups is None:
        if len(a) != len(b):
            raise ConfigError(f"{len(a)} and {len(b)} embeddings are not pairs: groups must say what belongs together")
        return a, b, np.arange(len(a))
    groups = np.asarray(groups)
    if groups.shape != (len(b),) or not (np.issubdtype(groups.dtype, np.integer) or not groups.size):
        raise ConfigError(f"groups: expected {len(b)} integers, got {groups.dtype} of shape {groups.shape}")
    if groups.size and not 0 <= groups.min() <= groups.max() < len(a):
        raise ConfigError(f"groups: {groups.min()} to {groups.max()}, but the rows of a are 0 to {len(a) - 1}")
    alone = np.bincount(groups.astype(np.int64), minlength=len(a)) == 0
    if alone.any():
        raise ConfigError(f"groups: no row of b belongs to row {int(alone.argmax())} of a")
    return a, b, groups.astype(np.int64)


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether the mesh has devices of several processes."""
    return mesh is not None and len({device.process_index for device in mesh.devices.flat}) > 1


def _layout(mesh: Mesh | None, a: np.ndarray, b: np.ndarray) -> tuple[int, np.ndarray, int]:
    """The number of parts of this process, the rows of a and b of every process that takes part [P, 2], and D.

    Raises:
      ConfigError: processes hold the same parts, or embeddings of different size.
    """
    if mesh is None:
        return 1, np.array([[len(a), len(b)]]), a.shape[1]
    mine, total = batch_parts(mesh)
    if not spans_processes(mesh):
        return total, np.array([[len(a), len(b)]]), a.shape[1]
    every = np.stack(distributed.gather(np.array([len(a), len(b), len(mine), a.shape[1]])))
    if every[:, 2].sum() != total or len(set(every[:, 2].tolist())) > 1:
        raise ConfigError("mesh: 'data' and 'fsdp' must split rows over the processes, and 'tensor' and 'context' not")
    if len(sizes := set(every[every[:, 0] > 0, 3].tolist())) > 1:
        raise ConfigError(f"processes have embeddings of different size: {sorted(sizes)}")
    return len(mine), every[:, :2], max(sizes, default=0)


def _rows_per_part(rows: int, parts: int, tile: int) -> int:
    """The number of rows of each part, a multiple of the size of a tile."""
    size = max(1, -(-rows // parts))
    return -(-size // tile) * tile if size > tile else size


@partial(jax.jit, static_argnames=("mesh", "tile"))
def _count(a: _Rows, b: _Rows, mesh: Mesh | None, tile: int) -> tuple[Array, Array]:
    """The numbers of competitors that are better than the match, and that tie with it, int32 [rows, 2], of a and b."""
    if mesh is None:
        return _count_part(a, b, tile=tile, axes=())
    split = PartitionSpec(BATCH_AXES)
    part = partial(_count_part, tile=tile, axes=BATCH_AXES)
    return jax.shard_map(part, mesh=mesh, in_specs=(split, split), out_specs=(split, split))(a, b)


def _count_part(a: _Rows, b: _Rows, tile: int, axes: tuple[str, ...]) -> tuple[Array, Array]:
    a, b = (jax.tree.map(lambda x: x.reshape(-1, min(tile, len(x)), *x.shape[1:]), rows) for rows in (a, b))

    def block_fn(a: _Rows, of_a: Array, travelling: tuple[_Rows, Array]) -> tuple[Array, tuple[_Rows, Array]]:
        b, of_b = travelling

        def row_of_tiles(of_b, x):
            rows, count = x
            count, of_b = jax.lax.scan(partial(_count_tile, rows), count, (b, of_b))
            return of_b, count

        of_b, of_a = jax.lax.scan(row_of_tiles, of_b, (a, of_a))
        return of_a, (b, of_b)

    zeros = (jnp.stack([x.item * 0] * 2, -1) for x in (a, b))  # device-varying as the items are
    of_a, (_, of_b) = scan_ring(block_fn, a, next(zeros), (b, next(zeros)), axes)
    return of_a.reshape(-1, 2), of_b.reshape(-1, 2)


def _count_tile(a: _Rows, of_a: Array, tile: tuple[_Rows, Array]) -> tuple[Array, Array]:
    """The counts of rows of a and b after one more tile."""
    b, of_b = tile
    values = similarity(a.digits, b.digits)
    competes = (a.item[:, None] != b.item) & (a.item[:, None] >= 0) & (b.item >= 0)

    def count(best: Array, axis: int) -> Array:
        better, ties = competes & (values > best), competes & (values == best)
        return jnp.stack([better.sum(axis, jnp.int32), ties.sum(axis, jnp.int32)], -1)

    return of_a + count(a.best[:, None], 1), of_b + count(b.best, 0)


def _ranks_of(counts: Array, mesh: Mesh | None, number: int) -> Ranks:
    """The ranks of this process's `number` rows."""
    if spans_processes(mesh):
        shards = {shard.index[0].start or 0: shard.data for shard in counts.addressable_shards}
        local = np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])
    else:
        local = np.asarray(counts)
    better, ties = local[:number].astype(np.int64).T
    return Ranks(1 + better + ties, ties)
