"""The record of a checkpoint: one JSON file that says what the arrays beside it have to be.

    checkpoint.json
      leaves   path → {shape, dtype}
      files    file of the array store → {bytes, crc32}; in an object store, which guards what it holds, bytes alone
      meta     whatever the caller wants to keep with the tree (place in the recipe, position in the data, …)
      crc32    of all of the above

It is written when all others are, before Orbax commits the directory by renaming it, so a directory without it is a
write that was cut short and does not count; in an object store, where nothing is renamed, it alone commits. On the way
back it is read first. The target is compared with `leaves` in full before an array is touched; the files are compared
with `files`, since the array store itself notices a truncated file only in passing and a flipped bit not at all.
"""

import dataclasses
import json
import zlib
from typing import Any

import jax
import numpy as np
from etils import epath

from codi_jax import storage
from codi_jax.parallel import paths

NAME = "checkpoint.json"
# Orbax writes these about the commit itself, after the record.
_OWN_FILES = {NAME, "_CHECKPOINT_METADATA", "commit_success.txt"}
_SHOWN = 20


class CheckpointError(Exception):
    """A checkpoint cannot be read, written, or does not hold what was asked for; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, path: str, leaf: Any) -> "Leaf":
        """Of an array or a ShapeDtypeStruct."""
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise CheckpointError(f"{path}: only arrays can be stored, not {type(leaf).__name__}")
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise CheckpointError(f"{path}: random keys are not stored; fold them from the seed and the step")
        return cls(tuple(leaf.shape), np.dtype(leaf.dtype).name)

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class CheckpointIndex:
    """What stands in `checkpoint.json`."""

    leaves: dict[str, Leaf]
    files: dict[str, dict[str, int]]
    meta: dict[str, Any]


def leaves_of(tree: Any) -> dict[str, Leaf]:
    """Shapes and dtypes by path of a tree of arrays or ShapeDtypeStructs."""
    return {path: Leaf.of(path, leaf) for path, leaf in paths.flatten(tree).items()}


def _crc32(file: epath.Path) -> int:
    crc = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def _digest(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def write(directory: epath.Path, leaves: dict[str, Leaf], meta: dict[str, Any]) -> None:
    """Describes the array store that is complete in `directory`."""
    files = {}
    for name, size in sorted(storage.files(directory).items(), key=lambda file: file[0].split("/")):
        if name.split("/")[-1] not in _OWN_FILES:
            files[name] = {"bytes": size}
            if not storage.is_remote(directory):  # there every host that reads it would have to fetch all of it
                files[name]["crc32"] = _crc32(directory / name)
    content = {"leaves": {p: dataclasses.asdict(leaf) for p, leaf in leaves.items()}, "files": files, "meta": meta}
    (directory / NAME).write_text(json.dumps({**content, "crc32": _digest(content)}, indent=1))


def read(directory: epath.Path) -> CheckpointIndex:
    """The record of the checkpoint in `directory`.

    Raises:
      CheckpointError: there is none, or it is damaged.
    """
    try:
        content = json.loads((directory / NAME).read_text())
        digest = content.pop("crc32")
        leaves = {p: Leaf(tuple(leaf["shape"]), leaf["dtype"]) for p, leaf in content["leaves"].items()}
        index = CheckpointIndex(leaves, content["files"], content["meta"])
    except OSError:
        raise CheckpointError(f"no checkpoint in {directory}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"checkpoint {directory} is damaged: {NAME} cannot be read") from None
    if digest != _digest(content):
        raise CheckpointError(f"checkpoint {directory} is damaged: {NAME} has been altered")
    return index


def compare(directory: epath.Path, saved: dict[str, Leaf], target: dict[str, Leaf]) -> None:
    """Holds a checkpoint's leaves against those asked for.

    Raises:
      CheckpointError: every leaf that is missing, extra, of another shape or of another dtype, by path.
    """
    wrong = [f"  missing    {path}  {leaf}" for path, leaf in target.items() if path not in saved]
    wrong += [f"  extra      {path}  {leaf}" for path, leaf in saved.items() if path not in target]
    for path in saved.keys() & target.keys():
        have, want = saved[path], target[path]
        if have.shape != want.shape:
            wrong.append(f"  misshaped  {path}  saved {have}, expected {want}")
        elif have.dtype != want.dtype:
            wrong.append(f"  mistyped   {path}  saved {have}, expected {want}")
    if wrong:
        raise CheckpointError(
            f"checkpoint {directory} does not fit: {len(wrong)} differences\n" + "\n".join(sorted(wrong))
        )


def verify(directory: epath.Path, index: CheckpointIndex) -> None:
    """Holds the files of the array store against the record.

    Raises:
      CheckpointError: a file is gone, of another length, or altered.
    """
    found = storage.files(directory)
    for name, expected in index.files.items():
        if name not in found:
            raise CheckpointError(f"checkpoint {directory} is damaged: {name} is missing")
        length = found[name]
        if length != expected["bytes"]:
            raise CheckpointError(
                f"checkpoint {directory} is damaged: {name} has {length} bytes instead of {expected['bytes']}"
            )
        if "crc32" in expected and _crc32(directory / name) != expected["crc32"]:
            raise CheckpointError(f"checkpoint {directory} is damaged: {name} has been altered")
