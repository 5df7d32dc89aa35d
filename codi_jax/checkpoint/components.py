"""The parameters of a finished component: one directory, replaced atomically."""

import math
from typing import Any

import jax
import numpy as np

from codi_jax import storage
from codi_jax.checkpoint import index, store
from codi_jax.checkpoint.index import SaveError
from codi_jax.config import first_line
from codi_jax.parallel import distributed
from codi_jax.types import PyTree


def save_params(directory: str, tree: PyTree, meta: dict[str, Any] | None = None) -> None:
    """Writes a tree of arrays and a JSON-able dict to `directory`; returns when they are complete on disk.

    Previous contents are replaced after the new ones are complete. An object store cannot replace a directory: there
    the old contents are invalidated first, so a kill may leave no valid checkpoint, but never a mixture of the two.

    Raises:
      CheckpointError: a leaf is not an array, or the tree cannot be written.
    """
    path = store.absolute(directory)
    in_place = storage.is_remote(path)
    target = path if in_place else path.with_name(path.name + ".new")
    args = store.save_args(tree, meta or {})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if in_place and jax.process_index() == 0 and (path / index.NAME).exists():
            store.discard(path)
        with store.writer(path, copy=False) as writer:
            writer.save(target, args=args, force=True)
            writer.wait_until_finished()
        if jax.process_index() == 0 and not in_place:
            if path.exists():
                path.rmtree()
            target.rename(path)
        distributed.wait_for_all(f"saved {path}")
    except (OSError, ValueError, RuntimeError) as error:
        raise SaveError(f"cannot save {path}: {first_line(error)}") from error


def load_params(directory: str, target: PyTree | None = None) -> PyTree:
    """Reads a directory that `save_params` wrote.

    Args:
      directory: the directory.
      target: a tree of ShapeDtypeStructs (with shardings) or of arrays; None for nested dicts of numpy arrays.

    Raises:
      CheckpointError: there is no checkpoint, it is damaged, or a leaf differs from the target in path, shape or dtype.
    """
    return store.restore(store.absolute(directory), target)[0]


_READ_AHEAD = 64 << 20  # bytes


class CheckpointReader:
    """Reads single arrays of a directory that `save_params` wrote, within a limit of memory.

    Attributes:
      shapes: path -> shape and dtype of every leaf; reading is fastest in this order.

    Raises:
      CheckpointError: there is no checkpoint, or it is damaged.
    """

    def __init__(self, directory: str):
        self._directory = store.absolute(directory)
        saved = index.read(self._directory)
        index.verify(self._directory, saved)
        self.shapes = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in saved.leaves.items()}
        self._order = list(self.shapes)
        self._position = {path: i for i, path in enumerate(self._order)}
        self._ahead: dict[str, np.ndarray] = {}

    def read(self, path: str) -> np.ndarray:
        """Reads one leaf. Small leaves after it are read too and kept until a leaf that is not among them is read."""
        if path not in self._ahead:
            self._ahead.clear()
            batch, total = {}, 0
            for name in self._order[self._position[path] :]:
                leaf = self.shapes[name]
                total += math.prod(leaf.shape) * leaf.dtype.itemsize
                if batch and total > _READ_AHEAD:
                    break
                batch[name] = leaf
            self._ahead = store.restore_some(self._directory, batch)
        return self._ahead.pop(path)

    def read_into(self, leaves: dict[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
        """Reads leaves by path, a few at a time.

        Args:
          leaves: path -> shape, dtype and sharding; see `store.restore_some`.

        Returns:
          Path -> array.
        """
        out, batch, total = {}, {}, 0
        for path, leaf in leaves.items():
            batch[path] = leaf
            total += math.prod(leaf.shape) * self.shapes[path].dtype.itemsize
            if total > _READ_AHEAD:
                out |= store.restore_some(self._directory, batch)
                batch, total = {}, 0
        return out | (store.restore_some(self._directory, batch) if batch else {})


def read_meta(directory: str) -> dict[str, Any]:
    """The `meta` that was given to `save_params`."""
    return index.read(store.absolute(directory)).meta
