"""Sharding rules: which dimension of which array is split over which mesh axis.

Rules are an ordered list of (regex, spec); the first match decides. A spec gives a mesh axis (or several, or None) for
each leading dimension of the array. The regex must match a *suffix* of the path that begins at a key: the paths of the
Adam moments and the EMA of a parameter end with the parameter's path (`opt_state/1/mu/vision_unet/…`,
`ema/vision_unet/…`), so one rule shards a parameter, its moments and its EMA in the same way.

An array that no rule matches falls back to FSDP: if it has at least `fsdp_min_bytes`, it is split along its largest
dimension that the fsdp axis divides (of equal ones the last, which is the output dimension of a kernel). Smaller arrays
are replicated, since gathering them costs more than the memory that sharding would save.
"""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from codi_jax.config import ConfigError, config_class, renamed
from codi_jax.parallel import paths
from codi_jax.parallel.tables import size, table
from codi_jax.types import PyTree

BATCH_AXES = ("data", "fsdp")
MeshLike = Mesh | AbstractMesh  # sizes of the axes, with devices or without


@config_class()
class ShardingConfig:
    """How parameters, optimizer state, EMA and batches are sharded.

    Attributes:
      rules: ordered pairs (regex over a suffix of the path, spec); a spec is a sequence with None, the name of a mesh
        axis or a sequence of names for each leading dimension. An empty spec replicates the array.
      context: ordered pairs (regex over the whole path of an array of the batch, dimension): the dimension of it that
        is split over 'context', such as ("video/(mean|std)", 1) for the frames of videos, ("image", 1) for the rows of
        images. The compiler propagates this sharding.
      fsdp_min_bytes: least size of an array that no rule matches to be split over 'fsdp'.
      min_sharded_fraction: if fsdp > 1, the least fraction of the bytes in arrays of that size that must be sharded;
        less is an error, since replicated arrays take memory on every device.
    """

    rules: tuple[Any, ...] = ()
    context: tuple[Any, ...] = ()
    fsdp_min_bytes: int = 4 * 2**20
    min_sharded_fraction: float = renamed("least_sharded", default=0.98)


@dataclasses.dataclass(frozen=True)
class Row:
    """One array of the resolved table; `why` is the rule that matched, or the reason of the fallback."""

    path: str
    shape: tuple[int, ...]
    bytes: int
    spec: PartitionSpec
    shards: int
    why: str


@dataclasses.dataclass(frozen=True)
class ShardingTable:
    """The result of `resolve` for every array; `str` summarizes it by first key, spec and rule."""

    rows: tuple[Row, ...]
    fsdp_min_bytes: int

    @property
    def _large(self) -> list[Row]:
        return [row for row in self.rows if row.bytes >= self.fsdp_min_bytes]

    @property
    def sharded_fraction(self) -> float:
        """The fraction of the bytes in arrays of at least `fsdp_min_bytes` that are sharded; 1 if there are none."""
        total = sum(row.bytes for row in self._large)
        return sum(row.bytes for row in self._large if row.shards > 1) / total if total else 1.0

    def require(self, mesh: MeshLike, least: float) -> None:
        """Checks that `sharded_fraction` is at least `least`, if the mesh splits parameters.

        Raises:
          ConfigError: it is less; the message names the largest arrays that are not sharded.
        """
        if mesh.shape["fsdp"] == 1 or self.sharded_fraction >= least:
            return
        replicated_rows = sorted((row for row in self._large if row.shards == 1), key=lambda row: -row.bytes)
        shown = "; ".join(f"{row.path} {list(row.shape)} ({row.why})" for row in replicated_rows[:3])
        more = f" and {len(replicated_rows) - 3} more" if len(replicated_rows) > 3 else ""
        raise ConfigError(
            f"fsdp = {mesh.shape['fsdp']} splits {self.sharded_fraction:.1%} of the bytes in arrays of "
            f"{size(self.fsdp_min_bytes)} or more, {least:.0%} are required. Not split: {shown}{more}. Reduce "
            "mesh.fsdp, add sharding.rules for these arrays, or lower sharding.min_sharded_fraction"
        )

    def __str__(self) -> str:
        groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[row.path.split("/")[0], _show(row.spec), row.why].append(row)
        lines = [("arrays", "leaves", "bytes", "per device", "split over", "rule")]
        for (head, spec, why), rows in groups.items():
            lines.append((head, *_sums(rows), spec, why))
        large = f"{self.sharded_fraction:.1%} of the bytes in arrays of {size(self.fsdp_min_bytes)} or more are split"
        return table([*lines, ("total", *_sums(self.rows), "", large)], right=(1, 2, 3))


def _sums(rows: Sequence[Row]) -> tuple[str, str, str]:
    """The number of leaves, bytes and bytes per device of some rows."""
    return str(len(rows)), size(sum(r.bytes for r in rows)), size(sum(r.bytes // r.shards for r in rows))


def _show(spec: PartitionSpec) -> str:
    return f"({', '.join('·' if s is None else '+'.join(_names(s)) for s in spec)})"


def _names(entry: Any) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def _explicit(path: str, shape: tuple[int, ...], rule: str, spec: Any, mesh: MeshLike) -> PartitionSpec:
    """The spec of a rule, validated against an array and the mesh."""
    where = f"sharding rule {rule!r}, {path} {list(shape)}"
    if isinstance(spec, str) or not hasattr(spec, "__len__"):
        raise ConfigError(f"{where}: a spec is a sequence of axis names, one per dimension, got {spec!r}")
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


def _fsdp(shape: tuple[int, ...], nbytes: int, mesh: MeshLike, config: ShardingConfig) -> tuple[PartitionSpec, str]:
    """The FSDP fallback for an array of `nbytes` bytes, and its reason."""
    ways = mesh.shape["fsdp"]
    if ways == 1:
        return PartitionSpec(), "fsdp = 1"
    if nbytes < config.fsdp_min_bytes:
        return PartitionSpec(), f"below {size(config.fsdp_min_bytes)}"
    divisible = [(length, axis) for axis, length in enumerate(shape) if length % ways == 0]
    if not divisible:
        return PartitionSpec(), f"no dimension divisible by {ways}"
    return PartitionSpec(*(None,) * max(divisible)[1], "fsdp"), "fsdp"


def _compiled(rules: Sequence[Any]) -> list[tuple[str, re.Pattern[str], Any]]:
    """(regex, pattern that matches whole paths whose tail the regex matches, spec)."""
    return [
        (regex, re.compile(f"(?:.*/)?(?:{regex})"), spec)
        for regex, _, spec in paths.compile_rules(rules, "sharding rules")
    ]


def unmatched_rules(array_paths: Iterable[str], config: ShardingConfig) -> tuple[str, ...]:
    """The regexes of `config.rules` that match none of the paths."""
    array_paths = tuple(array_paths)
    return tuple(regex for regex, pattern, _ in _compiled(config.rules) if not any(map(pattern.fullmatch, array_paths)))


def resolve(tree: PyTree, mesh: MeshLike, config: ShardingConfig) -> tuple[PyTree, ShardingTable]:
    """Resolves the sharding of every leaf of a tree: parameters, optimizer state, EMA or a whole train state.

    Args:
      tree: arrays or ShapeDtypeStructs.
      mesh: from `make_mesh`.
      config: the rules.

    Returns:
      A tree like `tree` of NamedShardings, and the table of all arrays with their specs and rules.

    Raises:
      ConfigError: the spec of a rule does not fit an array that it matches.
    """
    rules = _compiled(config.rules)
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


def in_host_memory(shardings: PyTree) -> PyTree:
    """The same shardings in pinned host memory; a step must move such arrays to the device before it uses them."""
    return jax.tree.map(lambda sharding: sharding.with_memory_kind("pinned_host"), shardings)


def replicated(mesh: MeshLike) -> NamedSharding:
    """The sharding of an array that is replicated on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Puts arrays on every device of a mesh, also on those of other processes, which all pass the same values.

    `jax.device_put` takes no array that only this process has for devices of several processes.

    Args:
      tree: numpy or jax arrays, on this process or on the mesh, PRNG keys among them.
      mesh: from `make_mesh`.
    """
    sharding = replicated(mesh)
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def place(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return jax.jit(lambda array: array, out_shardings=sharding)(x)
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, tree)


def batch_sharding(mesh: MeshLike) -> NamedSharding:
    """The sharding of an array whose first dimension is the batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def split_context(batch: PyTree, mesh: MeshLike, rules: Sequence[Any]) -> PyTree:
    """Inside a jitted function, constrains a batch [B, …] to be split over 'context' too; see `ShardingConfig.context`.

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
            raise ConfigError(f"{where}: there is no dimension {dimension!r} other than the batch dimension 0")
        if array.shape[dimension] % ways:
            raise ConfigError(f"{where}: {array.shape[dimension]} cannot be split into {ways}")
        spec = PartitionSpec(BATCH_AXES, *(None,) * (dimension - 1), "context")
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, spec))

    return paths.replace(batch, {path: split(path, array) for path, array in paths.flatten(batch).items()})


def num_batch_shards(sizes: Mapping[str, int]) -> int:
    """The number of parts into which a mesh with axes of these sizes splits a batch."""
    return math.prod(sizes[axis] for axis in BATCH_AXES)


def batch_parts(mesh: Mesh) -> tuple[tuple[int, ...], int]:
    """The parts of a batch that the devices of this process hold, ascending, and the total number of equal parts.

    Both follow from the mesh: its order of devices may differ from the order of processes, the parts of a process may
    not be contiguous, and processes that 'tensor' or 'context' span hold the same parts.
    """
    parts = num_batch_shards(mesh.shape)
    indices = batch_sharding(mesh).addressable_devices_indices_map((parts,)).values()
    held = [index[0].indices(parts) for index in indices if index is not None]
    return tuple(sorted({part for rows in held for part in range(*rows)})), parts


def batch_rows(mesh: Mesh, size: int) -> np.ndarray:
    """The rows of a global batch of `size` that this process reads: those that its devices hold, ascending.

    Raises:
      ConfigError: the batch cannot be split evenly.
    """
    mine, parts = batch_parts(mesh)
    if size % parts:
        raise ConfigError(f"batch of {size} cannot be split over {parts} devices (data × fsdp)")
    return np.arange(size).reshape(parts, -1)[list(mine)].reshape(-1)


def place_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """Puts the rows of this process on its devices, as part of global arrays split over ('data', 'fsdp').

    Args:
      batch: a tree of numpy arrays with the rows `batch_rows` of [B, …]; scalars are replicated.
      mesh: from `make_mesh`.

    Returns:
      A tree of global jax arrays [B, …].

    Raises:
      ConfigError: the global batch cannot be split evenly.
    """
    mine, parts = batch_parts(mesh)
    position = {part: i for i, part in enumerate(mine)}

    def place(path: str, array: Any) -> jax.Array:
        array = np.asarray(array)
        if array.ndim == 0:
            return jax.make_array_from_process_local_data(replicated(mesh), array)
        rows, rest = divmod(array.shape[0], len(mine))
        if rest:
            total = array.shape[0] * parts // len(mine)
            raise ConfigError(f"batch of {total} ({path}) cannot be split over {parts} devices (data × fsdp)")

        def read(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            start, stop, _ = index[0].indices(rows * parts)
            first = position[start // rows] * rows
            return array[first : first + stop - start]

        return jax.make_array_from_callback((rows * parts, *array.shape[1:]), batch_sharding(mesh), read)

    return paths.replace(batch, {path: place(path, array) for path, array in paths.flatten(batch).items()})
