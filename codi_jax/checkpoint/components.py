"""The parameters of a finished component: one directory, replaced as a whole."""

from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from codi_jax.checkpoint import record, store
from codi_jax.checkpoint.record import CheckpointError


def _absolute(directory: str) -> epath.Path:
    return epath.Path(directory) if "://" in str(directory) else epath.Path(epath.Path(directory).absolute())


def save_params(directory: str, tree: Any, meta: dict[str, Any] | None = None) -> None:
    """Writes a tree of arrays and a JSON-able dict to `directory`; returns when they are whole on disk.

    What stood there before is replaced, and only once the new is complete.

    Raises:
      CheckpointError: the tree is not of arrays, or cannot be written.
    """
    path = _absolute(directory)
    fresh = path.with_name(path.name + ".new")
    args = store.save_args(tree, meta or {})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ocp.AsyncCheckpointer(store.Handler()) as writer:
            writer.save(fresh, args=args, force=True)
            writer.wait_until_finished()
        if jax.process_index() == 0:
            if path.exists():
                path.rmtree()
            fresh.rename(path)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"saved {path}")
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
    return store.restore(_absolute(directory), target)[0]


def read_meta(directory: str) -> dict[str, Any]:
    """The dict that `save_params` was given."""
    return record.read(_absolute(directory)).meta
