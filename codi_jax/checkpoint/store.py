"""Saves a tree of arrays to one directory and restores it, by Orbax.

The tree is stored as nested dicts keyed by the parts of each path, whatever containers it consists of, so the files do
not depend on the classes of this package and any reader of Orbax's format can open them. The format is OCDBT, which
packs a thousand small arrays into a few files.
"""

import asyncio
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint._src import asyncio_utils

from codi_jax import storage
from codi_jax.checkpoint import index, s3
from codi_jax.checkpoint.index import CheckpointError
from codi_jax.config import first_line
from codi_jax.parallel import distributed, paths
from codi_jax.types import PyTree


def _finish_all(run_sync: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wraps Orbax's function that runs a coroutine in a new event loop, so that all tasks end before the loop closes.

    When several arrays are written concurrently, Orbax raises the first error and closes the loop while other tasks
    still run; on a full disk asyncio and tensorstore would then print an error for each of them.
    """

    @functools.wraps(run_sync)
    def run(coroutine: Any) -> Any:
        async def run_and_wait() -> Any:
            before = asyncio.all_tasks()
            try:
                return await coroutine
            except Exception:
                if others := asyncio.all_tasks() - before:
                    await asyncio.wait(others, timeout=_TIMEOUT)
                raise

        return run_sync(run_and_wait())

    return run


_TIMEOUT = 60.0  # seconds
asyncio_utils.run_sync = _finish_all(asyncio_utils.run_sync)

_MAX_IN_FLIGHT = 64 << 20  # bytes


def _to_host(array: np.ndarray | jax.Array) -> np.ndarray:
    """A numpy array. That of a jax array is not kept by it, as `np.asarray` would do."""
    if isinstance(array, np.ndarray):
        return array
    out = np.empty(array.shape, array.dtype)
    for shard in array.addressable_shards:
        if shard.replica_id == 0:
            out[shard.index] = np.asarray(jax.device_put(shard.data, shard.device, may_alias=False))
    return out


class _BoundedNumpyHandler(ocp.type_handlers.NumpyHandler):
    """Writes arrays of one process, of which at most `_MAX_IN_FLIGHT` bytes (or one array) are copied at a time.

    Orbax copies all arrays first and then writes all of them at once. For parameters that are mapped into memory from a
    file, that would load every array, twice; of parameters that are split over devices the host would hold all.
    """

    _array_metadata_store = None  # Orbax asks the handler of jax arrays for it

    def __init__(self) -> None:
        super().__init__(deepcopy_host_arrays=False)

    async def _background_serialize(self, *args: Any, **options: Any) -> None:
        self._change, self._busy = asyncio.Condition(), 0  # they belong to the event loop of the write
        await super()._background_serialize(*args, **options)

    async def _open_and_write(self, value: np.ndarray | jax.Array, *args: Any, **options: Any) -> None:
        async with self._change:
            await self._change.wait_for(lambda: not self._busy or self._busy + value.nbytes <= _MAX_IN_FLIGHT)
            self._busy += value.nbytes
        try:
            await super()._open_and_write(_to_host(value), *args, **options)
        finally:
            async with self._change:
                self._busy -= value.nbytes
                self._change.notify_all()


class Handler(ocp.PyTreeCheckpointHandler):
    """Orbax's handler of trees, which also writes the index after all arrays.

    With copy=False, arrays are not copied first; they must not change until they are written. Of several processes,
    each copies and writes its shards of a jax array.
    """

    def __init__(self, copy: bool = True) -> None:
        if copy:
            super().__init__()
            return
        kinds, bounded = ocp.type_handlers, _BoundedNumpyHandler()
        split = kinds.ArrayHandler() if distributed.is_multiprocess() else bounded
        handlers = ((np.ndarray, bounded), (jax.Array, split))
        super().__init__(type_handler_registry=kinds.create_type_handler_registry(*handlers))

    async def async_save(
        self, directory: Any, item: object = None, save_args: object = None, args: ocp.args.PyTreeSave | None = None
    ) -> Any:
        assert isinstance(args, Save), "a checkpointer passes `args` alone"
        self._leaves, self._meta = args.leaves, args.meta
        return await super().async_save(directory, args=args)

    def finalize(self, directory: epath.Path) -> None:
        """Called by Orbax on one host, after every host has written its shards and before the commit."""
        super().finalize(directory)
        index.write(directory, self._leaves, self._meta)


@ocp.args.register_with_handler(Handler, for_save=True)
@dataclasses.dataclass
class Save(ocp.args.PyTreeSave):
    """The arguments of a save by `Handler`: a tree of nested dicts, and the leaves and meta of its index."""

    leaves: dict[str, index.Leaf] = dataclasses.field(default_factory=dict)
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)


@ocp.args.register_with_handler(Handler, for_restore=True)
@dataclasses.dataclass
class Restore(ocp.args.PyTreeRestore):
    """The arguments of a restore by `Handler`."""


def absolute(directory: str) -> epath.Path:
    """The absolute path of a directory, as Orbax requires it; enables `s3://` in Orbax if needed.

    Raises:
      ConfigError: the scheme is not supported, or its library is not installed.
    """
    path = storage.as_path(directory)
    if str(path).startswith("s3://"):
        s3.patch_orbax()
    return epath.Path(path if storage.is_remote(path) else path.absolute())


def writer(directory: epath.Path, copy: bool = True) -> ocp.AsyncCheckpointer:
    """A checkpointer that saves to `directory` or to directories in it.

    A local directory is written under a temporary name and renamed. In an object store it is written in place, and is
    complete once its index exists.

    Args:
      directory: decides between the two.
      copy: whether numpy arrays are copied first, see `Handler`.
    """
    kinds = ocp.path.atomicity
    kind = kinds.CommitFileTemporaryPath if storage.is_remote(directory) else kinds.AtomicRenameTemporaryPath
    return ocp.AsyncCheckpointer(Handler(copy), temporary_path_class=kind)


def _reader() -> ocp.Checkpointer:
    """A checkpointer that restores. The index marks a complete directory; Orbax's own commit file is not required."""
    return ocp.Checkpointer(Handler(), temporary_path_class=ocp.path.atomicity.AtomicRenameTemporaryPath)


def discard(directory: epath.Path) -> None:
    """Removes a complete checkpoint; its index is removed first, so an interrupted removal leaves an incomplete one."""
    (directory / index.NAME).unlink()
    directory.rmtree()


def save_args(tree: PyTree, meta: dict[str, Any]) -> Save:
    """The arguments for saving `tree` with `meta`.

    Raises:
      CheckpointError: the tree is empty, or a leaf is not an array.
    """
    leaves = index.leaves_of(tree)
    if not leaves:
        raise CheckpointError("there is nothing to save: the tree has no leaves")
    return Save(paths.nest(paths.flatten(tree)), leaves=leaves, meta=meta)


def _restore_args(leaf: Any) -> ocp.RestoreArgs:
    """The type and sharding with which one leaf is restored."""
    if leaf is None or isinstance(leaf, (np.ndarray, np.generic)):
        return ocp.RestoreArgs(restore_type=np.ndarray)
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return ocp.ArrayRestoreArgs(sharding=sharding, global_shape=tuple(leaf.shape), dtype=leaf.dtype)


def restore(directory: epath.Path, target: PyTree | None) -> tuple[PyTree, dict[str, Any]]:
    """Restores the tree in `directory` and its meta.

    Args:
      directory: of one checkpoint.
      target: a tree of ShapeDtypeStructs or arrays; each leaf is restored directly into its sharding (the first local
        device if it has none), and where the target has a numpy array, as one. None restores nested dicts of numpy
        arrays.

    Raises:
      CheckpointError: there is no checkpoint, it is damaged, or its leaves differ from the target's.
    """
    saved = index.read(directory)
    if target is not None:
        index.compare(directory, saved.leaves, index.leaves_of(target))
    index.verify(directory, saved)
    wanted = dict.fromkeys(saved.leaves) if target is None else paths.flatten(target)
    args = Restore(restore_args=paths.nest({path: _restore_args(leaf) for path, leaf in wanted.items()}))
    try:
        with _reader() as reader:
            tree = reader.restore(directory, args=args)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {directory} cannot be read: {first_line(error)}") from error
    return (tree if target is None else paths.replace(target, paths.flatten(tree))), saved.meta


def restore_some(directory: epath.Path, leaves: dict[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    """Restores some arrays of the tree in `directory`.

    Args:
      directory: of one checkpoint.
      leaves: path -> shape, dtype and sharding. A leaf with a sharding is restored directly into it and cast to this
        dtype; a leaf without one becomes a numpy array of the saved dtype.

    Returns:
      Path -> array.

    Raises:
      CheckpointError: the arrays cannot be read.
    """
    wanted = {
        path: np.empty(leaf.shape, leaf.dtype) if leaf.sharding is None else leaf for path, leaf in leaves.items()
    }
    args = Restore(
        item=paths.nest(wanted),
        restore_args=paths.nest({path: _restore_args(item) for path, item in wanted.items()}),
        partial_restore=True,
    )
    try:
        with _reader() as reader:
            return paths.flatten(reader.restore(directory, args=args))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {directory} cannot be read: {first_line(error)}") from error
