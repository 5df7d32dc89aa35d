"""Removes what a refused command has begun to write: directories that were not there before and hold no result."""

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from codi_jax import storage

# What `train` writes before its first step. A lease is another run's: the command's own is released.
_NO_RESULTS = {"config.json", "config.begun.json", "weights.json", "cost.json"}
_FOLDERS = {"compiled", "bad_samples"}


class Leftovers:
    """The local directories among `paths` that do not exist yet, or are empty, when a command begins."""

    def __init__(self, paths: Iterable[Path | None]):
        local = [Path(os.path.abspath(path)) for path in paths if path is not None and not storage.is_remote(path)]
        self._new = [path for path in local if _is_new(path)]
        self._kept = {path: _existing(path) for path in self._new}

    def remove(self) -> None:
        """Removes what is in these directories, unless there are results, and the directories that did not exist."""
        for path in self._new:
            with contextlib.suppress(OSError):
                if path.is_dir() and _has_results(path):
                    continue
                for entry in path.iterdir() if path.is_dir() else ():
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                empty = _existing(path)
                while empty != self._kept[path]:
                    empty.rmdir()  # fails if it is not empty
                    empty = empty.parent


def _is_new(path: Path) -> bool:
    try:
        return not os.path.exists(path) or not os.listdir(path)
    except OSError:  # a file, or a directory that may not be read
        return False


def _existing(path: Path) -> Path:
    """The innermost directory around a path that exists."""
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return path


def _has_results(directory: Path) -> bool:
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if name not in _FOLDERS]
        for name in names:
            empty = name == "metrics.jsonl" and not os.path.getsize(os.path.join(folder, name))
            if not (empty or name in _NO_RESULTS or name.startswith("events.out.")):
                return True
    return False
