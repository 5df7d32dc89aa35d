"""The parameters of a finished component: one directory, replaced as a whole."""

import math
from typing import Any

import jax
import numpy as np

from codi_jax import storage
from codi_jax.checkpoint import index, store
from codi_jax.checkpoint.index import CheckpointError
from codi_jax.parallel import distributed


def save_params(directory: str, tree: Any, meta: dict[str, Any] | None = None) -> None:
    """Writes a tree of arrays and a JSON-able dict to `directory`; returns when they are whole on disk.

    What stood there before is replaced, and only once the new is complete. An object store cannot do that to a
    directory: there the old goes first, and a kill may leave neither, but never a mixture that counts.

    Raises:
      CheckpointError: the tree is not of arrays, or cannot be written.
    """
    path = store.absolute(directory)
    in_place = storage.is_remote(path)
    fresh = path if in_place else path.with_name(path.name + ".new")
    args = store.save_args(tree, meta or {})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if in_place and jax.process_index() == 0 and (path / index.NAME).exists():
            store.discard(path)
        with store.writer(path, copy=False) as writer:
            writer.save(fresh, args=args, force=True)
            writer.wait_until_finished()
        if jax.process_index() == 0 and not in_place:
            if path.exists():
                path.rmtree()
            fresh.rename(path)
        distributed.wait_for_all(f"saved {path}")
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"cannot save {path}: {str(error).splitlines()[0]}") from error


def load_params(directory: str, target: Any | None = None) -> Any:
    """Reads what `save_params` wrote.

    Args:
      directory: as given to `save_params`.
      target: a tree of ShapeDtypeStructs (with shardings) or of arrays; None for nested dicts of numpy arrays.

    Raises:
      CheckpointError: nothing there, damaged, or leaves that differ from the target's in any way.
    """
    return store.restore(store.absolute(directory), target)[0]


_AHEAD = 64 << 20  # bytes


class CheckpointReader:
    """The arrays of a directory that `save_params` wrote: some of them, or one after the other, as memory allows.

    Attributes:
      shapes: path -> shape and dtype of every leaf, in the order in which they are read fastest.

    Raises:
      CheckpointError: nothing there, or damaged.
    """

    def __init__(self, directory: str):
        self._directory = store.absolute(directory)
        saved = index.read(self._directory)
        index.verify(self._directory, saved)
        self.shapes = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in saved.leaves.items()}
        self._order = list(self.shapes)
        self._place = {path: i for i, path in enumerate(self._order)}
        self._ahead: dict[str, np.ndarray] = {}

    def read(self, path: str) -> np.ndarray:
        """One leaf. Small ones that follow are read with it and kept until they are asked for, or others are."""
        if path not in self._ahead:
            self._ahead.clear()
            some, total = {}, 0
            for name in self._order[self._place[path] :]:
                leaf = self.shapes[name]
                total += math.prod(leaf.shape) * leaf.dtype.itemsize
                if some and total > _AHEAD:
                    break
                some[name] = leaf
            self._ahead = store.restore_some(self._directory, some)
        return self._ahead.pop(path)

    def read_into(self, leaves: dict[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
        """Some leaves by path, a few at a time, each straight into its sharding and type; numpy arrays without one."""
        out, some, total = {}, {}, 0
        for path, leaf in leaves.items():
            some[path] = leaf
            total += math.prod(leaf.shape) * self.shapes[path].dtype.itemsize
            if total > _AHEAD:
                out |= store.restore_some(self._directory, some)
                some, total = {}, 0
        return out | (store.restore_some(self._directory, some) if some else {})


def read_meta(directory: str) -> dict[str, Any]:
    """The dict that `save_params` was given."""
    return index.read(store.absolute(directory)).meta
