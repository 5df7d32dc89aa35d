"""Which dimension of which array is split over which mesh axis.

Rules are an ordered list of (regex, spec); the first whose regex matches decides. A spec names a mesh axis (or
several, or None) for each leading dimension of the array. The regex has to match a whole *tail* of the path, beginning
at a key: a parameter's moments and average lie at paths that end with the parameter's own
(`opt_state/1/mu/vision_unet/…`, `ema/vision_unet/…`), so one rule splits a parameter and all that belongs to it alike.

What no rule matches falls back to FSDP: an array of at least `fsdp_min_bytes` is split along its largest dimension
that the fsdp axis divides (the last of equals, which is the output dimension of a kernel); smaller ones are repeated,
since gathering them costs more than they weigh.
"""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from codi_jax.config import ConfigError, renamed
from codi_jax.parallel import paths
from codi_jax.parallel.tables import size, table

BATCH_AXES = ("data", "fsdp")


@dataclasses.dataclass(frozen=True)
class ShardingConfig:
    """How parameters and all that belongs to them are split.

    Attributes:
      rules: ordered pairs (regex over a tail of the path, spec); a spec is a sequence with, for each leading dimension,
        None, the name of a mesh axis, or a sequence of names. An empty one repeats the array on every device.
      context: ordered pairs (regex over the whole path of an array of the batch, dimension): which dimension of it is
        split over 'context', as in ("video/(mean|std)", 1) for the frames of clips, ("image", 1) for the rows of
        pictures. What follows from it the compiler finds out.
      fsdp_min_bytes: arrays that no rule matches are split over 'fsdp' from this size on.
      min_sharded_fraction: least share of the bytes in arrays of that size that must be split where fsdp > 1; less is
        an error, since what is repeated on every device is what a large mesh was to save.
    """

    rules: tuple[Any, ...] = ()
    context: tuple[Any, ...] = ()
    fsdp_min_bytes: int = 4 * 2**20
    min_sharded_fraction: float = renamed("least_sharded", default=0.98)


@dataclasses.dataclass(frozen=True)
class Row:
    """One array of the resolved table; `why` is the rule that decided."""

    path: str
    shape: tuple[int, ...]
    bytes: int
    spec: PartitionSpec
    shards: int
    why: str


@dataclasses.dataclass(frozen=True)
class ShardingTable:
    """What `resolve` decided, array by array; `str` sums it up by first key, spec and rule."""

    rows: tuple[Row, ...]
    fsdp_min_bytes: int

    @property
    def _large(self) -> list[Row]:
        return [row for row in self.rows if row.bytes >= self.fsdp_min_bytes]

    @property
    def sharded_fraction(self) -> float:
        """The share of the bytes in arrays of at least `fsdp_min_bytes` that are split at all; 1 if there are none."""
        total = sum(row.bytes for row in self._large)
        return sum(row.bytes for row in self._large if row.shards > 1) / total if total else 1.0

    def require(self, mesh: Mesh, least: float) -> None:
        """Holds `sharded_fraction` against the least that is allowed where the mesh splits parameters.

        Raises:
          ConfigError: it is less, with the largest arrays that are not split.
        """
        if mesh.shape["fsdp"] == 1 or self.sharded_fraction >= least:
            return
        whole = sorted((row for row in self._large if row.shards == 1), key=lambda row: -row.bytes)
        shown = "; ".join(f"{row.path} {list(row.shape)} ({row.why})" for row in whole[:3])
        more = f" and {len(whole) - 3} more" if len(whole) > 3 else ""
        raise ConfigError(
            f"fsdp = {mesh.shape['fsdp']} splits {self.sharded_fraction:.1%} of the bytes in arrays of "
            f"{size(self.fsdp_min_bytes)} or more, {least:.0%} are required: not split are {shown}{more}; take a "
            "smaller mesh.fsdp, add sharding.rules for these, or lower sharding.min_sharded_fraction"
        )

    def __str__(self) -> str:
        groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[row.path.split("/")[0], _show(row.spec), row.why].append(row)
        lines = [("arrays", "leaves", "bytes", "a device", "split over", "rule")]
        for (head, spec, why), rows in groups.items():
            lines.append((head, *_sums(rows), spec, why))
        large = f"{self.sharded_fraction:.1%} of the bytes in arrays of {size(self.fsdp_min_bytes)} or more are split"
        return table([*lines, ("total", *_sums(self.rows), "", large)], right=(1, 2, 3))


def _sums(rows: Sequence[Row]) -> tuple[str, str, str]:
    """Leaves, bytes and bytes a device of some rows."""
    return str(len(rows)), size(sum(r.bytes for r in rows)), size(sum(r.bytes // r.shards for r in rows))


def _show(spec: PartitionSpec) -> str:
    return f"({', '.join('·' if s is None else '+'.join(_names(s)) for s in spec)})"


def _names(entry: Any) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def _explicit(path: str, shape: tuple[int, ...], rule: str, spec: Any, mesh: Mesh) -> PartitionSpec:
    """The spec of a rule, checked against an array and the mesh."""
    where = f"sharding rule {rule!r}, {path} {list(shape)}"
    if isinstance(spec, str) or not hasattr(spec, "__len__"):
        raise ConfigError(f"{where}: a spec is a sequence of axis names, one for each dimension, got {spec!r}")
    if len(spec) > len(shape):
        raise ConfigError(f"{where}: the spec names {len(spec)} dimensions")
    used: list[str] = []
    for length, entry in zip(shape, spec, strict=False):
        for name in _names(entry):
            if name not in mesh.shape:
                raise ConfigError(f"{where}: no mesh axis is called {name!r}; there are {', '.join(mesh.shape)}")
            if name in used:
                raise ConfigError(f"{where}: axis {name!r} is used twice")
            used.append(name)
        parts = math.prod(mesh.shape[name] for name in _names(entry))
        if length % parts:
            raise ConfigError(f"{where}: {length} cannot be split into {parts} ({'+'.join(_names(entry))})")
    return PartitionSpec(*(tuple(s) if isinstance(s, list) else s for s in spec))


def _fsdp(shape: tuple[int, ...], nbytes: int, mesh: Mesh, config: ShardingConfig) -> tuple[PartitionSpec, str]:
    """The fallback for an array of `nbytes` bytes."""
    ways = mesh.shape["fsdp"]
    if ways == 1:
        return PartitionSpec(), "fsdp = 1"
    if nbytes < config.fsdp_min_bytes:
        return PartitionSpec(), f"below {size(config.fsdp_min_bytes)}"
    divisible = [(length, axis) for axis, length in enumerate(shape) if length % ways == 0]
    if not divisible:
        return PartitionSpec(), f"no dimension divisible by {ways}"
    return PartitionSpec(*(None,) * max(divisible)[1], "fsdp"), "fsdp"


def resolve(tree: Any, mesh: Mesh, config: ShardingConfig) -> tuple[Any, ShardingTable]:
    """The sharding of every leaf of parameters, optimizer state, averages or a whole train state.

    Args:
      tree: arrays or ShapeDtypeStructs.
      mesh: from `make_mesh`.
      config: the rules.

    Returns:
      A tree like `tree` of NamedShardings, and the table of what was decided and why.

    Raises:
      ConfigError: a rule's spec does not fit an array that it matches.
    """
    rules = [
        (regex, re.compile(f"(?:.*/)?(?:{regex})"), spec)
        for regex, _, spec in paths.compile_rules(config.rules, "sharding rules")
    ]
    rows, shardings = [], {}
    for path, leaf in paths.flatten(tree).items():
        shape, nbytes = tuple(leaf.shape), math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
        for regex, pattern, entry in rules:
            if pattern.fullmatch(path):
                spec, why = _explicit(path, shape, regex, entry, mesh), regex
                break
        else:
            spec, why = _fsdp(shape, nbytes, mesh, config)
        shards = math.prod(mesh.shape[name] for entry in spec for name in _names(entry))
        rows.append(Row(path, shape, nbytes, spec, shards, why))
        shardings[path] = NamedSharding(mesh, spec)
    return paths.replace(tree, shardings), ShardingTable(tuple(rows), config.fsdp_min_bytes)


def in_host_memory(shardings: Any) -> Any:
    """The same shardings in host memory, from where a step has to fetch what it uses."""
    return jax.tree.map(lambda sharding: sharding.with_memory_kind("pinned_host"), shardings)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of an array whose first dimension is the batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def split_context(batch: Any, mesh: Mesh, rules: Sequence[Any]) -> Any:
    """A batch [B, …] inside a jitted function, split over 'context' as well; see ShardingConfig.

    Raises:
      ConfigError: a rule names a dimension that an array does not have, or that cannot be split evenly.
    """
    ways, compiled = mesh.shape["context"], paths.compile_rules(rules, "sharding.context")
    if ways == 1 or not compiled:
        return batch

    def split(path: str, array: jax.Array) -> jax.Array:
        dimension = next((d for _, pattern, d in compiled if pattern.fullmatch(path)), None)
        if dimension is None:
            return array
        where = f"sharding.context, {path} {list(array.shape)}"
        if dimension not in range(1, array.ndim):
            raise ConfigError(f"{where}: there is no dimension {dimension!r} beside the batch's, which is 0")
        if array.shape[dimension] % ways:
            raise ConfigError(f"{where}: {array.shape[dimension]} cannot be split into {ways}")
        spec = PartitionSpec(BATCH_AXES, *(None,) * (dimension - 1), "context")
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, spec))

    return paths.replace(batch, {path: split(path, array) for path, array in paths.flatten(batch).items()})


def num_batch_shards(sizes: Mapping[str, int]) -> int:
    """Into how many parts a mesh with axes of these sizes splits a batch."""
    return math.prod(sizes[axis] for axis in BATCH_AXES)


def batch_parts(mesh: Mesh) -> tuple[tuple[int, ...], int]:
    """Which equal parts of a batch the devices of this process hold, in order, and into how many it is split.

    The mesh decides: its order of devices need not be that of processes, the parts of one process need not lie side by
    side, and where 'tensor' or 'context' span processes several hold the same.
    """
    parts = num_batch_shards(mesh.shape)
    held = batch_sharding(mesh).addressable_devices_indices_map((parts,)).values()
    return tuple(sorted({part for (rows,) in held for part in range(*rows.indices(parts))})), parts


def batch_rows(mesh: Mesh, size: int) -> np.ndarray:
    """The rows of a global batch of `size` that this process reads: those which its devices hold, in order.

    Raises:
      ConfigError: the batch cannot be split evenly.
    """
    mine, parts = batch_parts(mesh)
    if size % parts:
        raise ConfigError(f"batch of {size} cannot be split over {parts} devices (data × fsdp)")
    return np.arange(size).reshape(parts, -1)[list(mine)].reshape(-1)


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Puts this process' rows of a batch on its devices, as global arrays split over ('data', 'fsdp').

    Args:
      batch: a tree of numpy arrays, the rows `batch_rows` of [B, …]; scalars are repeated.
      mesh: from `make_mesh`.

    Returns:
      A tree of global jax arrays [B, …].

    Raises:
      ConfigError: the global batch cannot be split evenly.
    """
    mine, parts = batch_parts(mesh)
    at = {part: i for i, part in enumerate(mine)}

    def place(path: str, array: Any) -> jax.Array:
        array = np.asarray(array)
        if array.ndim == 0:
            return jax.make_array_from_process_local_data(replicated(mesh), array)
        rows, rest = divmod(array.shape[0], len(mine))
        if rest:
            total = array.shape[0] * parts // len(mine)
            raise ConfigError(f"batch of {total} ({path}) cannot be split over {parts} devices (data × fsdp)")

        def read(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[0].indices(rows * parts)
            first = at[start // rows] * rows
            return array[first : first + stop - start]

        return jax.make_array_from_callback((rows * parts, *array.shape[1:]), batch_sharding(mesh), read)

    return paths.replace(batch, {path: place(path, array) for path, array in paths.flatten(batch).items()})
