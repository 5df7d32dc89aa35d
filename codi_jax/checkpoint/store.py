"""Arrays to and from one directory, by Orbax.

The tree is stored as nested dicts keyed by the parts of each path, whatever containers it was made of, so the files do
not depend on the classes of this package and any reader of Orbax's format can open them. On disk: OCDBT, which
gathers a thousand small arrays into a few files.
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
from codi_jax.parallel import paths


def _finish_all(run_sync: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Orbax's function that runs a coroutine in an event loop of its own, changed so that no task outlives the loop.

    Of arrays written side by side Orbax raises the first error and closes the loop under the others; on a full disk
    asyncio and tensorstore would then print an error for each.
    """

    @functools.wraps(run_sync)
    def run(coroutine: Any) -> Any:
        async def whole() -> Any:
            before = asyncio.all_tasks()
            try:
                return await coroutine
            except Exception:
                if others := asyncio.all_tasks() - before:
                    await asyncio.wait(others, timeout=_PATIENCE)
                raise

        return run_sync(whole())

    return run


_PATIENCE = 60.0  # seconds
asyncio_utils.run_sync = _finish_all(asyncio_utils.run_sync)

_IN_FLIGHT = 64 << 20  # bytes


class _AFewAtATime(ocp.type_handlers.NumpyHandler):
    """Writes numpy arrays straight from where they are, small ones together, large ones one after the other.

    Orbax copies all of them first and then writes all at once, which for parameters mapped into memory from a file
    would be everything twice.
    """

    def __init__(self) -> None:
        super().__init__(deepcopy_host_arrays=False)

    async def _background_serialize(self, *args: Any, **options: Any) -> None:
        self._change, self._busy = asyncio.Condition(), 0  # both of the loop that writes
        await super()._background_serialize(*args, **options)

    async def _open_and_write(self, value: np.ndarray, *args: Any, **options: Any) -> None:
        async with self._change:
            await self._change.wait_for(lambda: not self._busy or self._busy + value.nbytes <= _IN_FLIGHT)
            self._busy += value.nbytes
        try:
            await super()._open_and_write(value, *args, **options)
        finally:
            async with self._change:
                self._busy -= value.nbytes
                self._change.notify_all()


class Handler(ocp.PyTreeCheckpointHandler):
    """Orbax's handler of trees, which also writes the record when all arrays have been.

    With `still`, numpy arrays are not copied first: they must not change until they are written.
    """

    def __init__(self, copy: bool = True) -> None:
        kinds = ocp.type_handlers
        own = ((np.ndarray, _AFewAtATime()), (jax.Array, kinds.ArrayHandler()))
        super().__init__(**({"type_handler_registry": kinds.create_type_handler_registry(*own)} if not copy else {}))

    async def async_save(self, directory: Any, args: "Save") -> Any:
        self._leaves, self._meta = args.leaves, args.meta
        return await super().async_save(directory, args=args)

    def finalize(self, directory: epath.Path) -> None:
        """Called by Orbax on one host, when every host has written its share and before the commit."""
        super().finalize(directory)
        index.write(directory, self._leaves, self._meta)


@ocp.args.register_with_handler(Handler, for_save=True)
@dataclasses.dataclass
class Save(ocp.args.PyTreeSave):
    """What `Handler` saves: a tree of nested dicts, and what the record says about it."""

    leaves: dict[str, index.Leaf] = dataclasses.field(default_factory=dict)
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)


@ocp.args.register_with_handler(Handler, for_restore=True)
@dataclasses.dataclass
class Restore(ocp.args.PyTreeRestore):
    """What `Handler` restores."""


def absolute(directory: str) -> epath.Path:
    """Where a directory is, as Orbax wants to be told.

    Raises:
      ConfigError: an object store that is not known, or whose library is not installed.
    """
    path = storage.as_path(directory)
    if str(path).startswith("s3://"):
        s3.teach_orbax()
    return epath.Path(path if storage.is_remote(path) else path.absolute())


def writer(directory: epath.Path, copy: bool = True) -> ocp.AsyncCheckpointer:
    """What saves to directories beside or in `directory`; see `Handler`.

    Here they are written under another name and renamed; in an object store, in place, and the record makes them count.
    """
    ways = ocp.path.atomicity
    way = ways.CommitFileTemporaryPath if storage.is_remote(directory) else ways.AtomicRenameTemporaryPath
    return ocp.AsyncCheckpointer(Handler(copy), temporary_path_class=way)


def _reader() -> ocp.Checkpointer:
    """What restores. The record has said that a directory is whole; Orbax's own sign, made later, is not asked for."""
    return ocp.Checkpointer(Handler(), temporary_path_class=ocp.path.atomicity.AtomicRenameTemporaryPath)


def discard(directory: epath.Path) -> None:
    """Removes a directory that has a record, the record first: from then on it does not count, whatever happens."""
    (directory / index.NAME).unlink()
    directory.rmtree()


def save_args(tree: Any, meta: dict[str, Any]) -> Save:
    """The arguments that save `tree` with `meta`.

    Raises:
      CheckpointError: the tree is empty or holds something else than arrays.
    """
    leaves = index.leaves_of(tree)
    if not leaves:
        raise CheckpointError("there is nothing to save: the tree has no leaves")
    return Save(paths.nest(paths.flatten(tree)), leaves=leaves, meta=meta)


def _restore_args(leaf: Any) -> ocp.RestoreArgs:
    """Where and as what one leaf is to be restored."""
    if leaf is None or isinstance(leaf, (np.ndarray, np.generic)):
        return ocp.RestoreArgs(restore_type=np.ndarray)
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return ocp.ArrayRestoreArgs(sharding=sharding, global_shape=tuple(leaf.shape), dtype=leaf.dtype)


def restore(directory: epath.Path, target: Any | None) -> tuple[Any, dict[str, Any]]:
    """The tree in `directory` and its meta.

    Args:
      directory: of one checkpoint.
      target: a tree of ShapeDtypeStructs or arrays, each restored straight into its sharding (the first local device
        if it has none); numpy arrays come back as such. None takes what is there: nested dicts of numpy arrays.

    Raises:
      CheckpointError: no checkpoint, a damaged one, or one whose leaves differ from the target's.
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
        raise CheckpointError(f"checkpoint {directory} cannot be read: {str(error).splitlines()[0]}") from error
    return (tree if target is None else paths.replace(target, paths.flatten(tree))), saved.meta


def restore_some(directory: epath.Path, leaves: dict[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    """Some arrays of the tree in `directory`.

    Args:
      directory: of one checkpoint.
      leaves: path -> what is wanted: with a sharding, an array restored straight into it and cast to the type that is
        named; without, a numpy array on the host, of the type that was saved.

    Raises:
      CheckpointError: they cannot be read.
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
        raise CheckpointError(f"checkpoint {directory} cannot be read: {str(error).splitlines()[0]}") from error
