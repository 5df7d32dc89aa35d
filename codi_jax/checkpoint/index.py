"""The index of a checkpoint: a JSON file that describes the arrays and files in the same directory.

    checkpoint.json
      leaves   path → {shape, dtype}
      files    file of the array store → {bytes, crc32}; in an object store {bytes, md5}, and {etag} if that is no MD5
      meta     what the caller saves with the tree (stage of the recipe, position in the data, …)
      crc32    of all of the above

It is written last, before Orbax commits the directory by renaming it, so a directory without it is an interrupted write
and is ignored. In an object store, which cannot rename, the index alone marks a checkpoint as complete. A restore reads
the index first. It compares the target with all `leaves` before it reads an array, and the files with `files`, since
the array store itself does not reliably detect truncated files and does not detect flipped bits.

The MD5 of an object is compared with the etag in the listing of its directory, so that no host has to download a file
to verify it. Only if they differ, since it was copied in parts or is encrypted, it is downloaded.
"""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from codi_jax import storage
from codi_jax.parallel import paths
from codi_jax.types import PyTree

NAME = "checkpoint.json"
# Orbax writes the last two when it commits, after the index.
_NOT_INDEXED = {NAME, "_CHECKPOINT_METADATA", "commit_success.txt"}
_SHOWN = 20


class CheckpointError(Exception):
    """A checkpoint cannot be read or written, or does not fit the target; the message is for the user."""


class SaveError(CheckpointError):
    """A checkpoint could not be written. Earlier ones are intact, and the same command may succeed later."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, path: str, leaf: Any) -> "Leaf":
        """The shape and dtype of an array or a ShapeDtypeStruct.

        Raises:
          CheckpointError: it is neither, or a random key.
        """
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise CheckpointError(f"{path}: only arrays can be stored, not {type(leaf).__name__}")
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise CheckpointError(f"{path}: random keys are not stored; fold them from the seed and the step")
        return cls(tuple(leaf.shape), np.dtype(leaf.dtype).name)

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class CheckpointIndex:
    """The contents of `checkpoint.json`."""

    leaves: dict[str, Leaf]
    files: dict[str, dict[str, Any]]
    meta: dict[str, Any]


def leaves_of(tree: PyTree) -> dict[str, Leaf]:
    """The shapes and dtypes of a tree of arrays or ShapeDtypeStructs, by path."""
    return {path: Leaf.of(path, leaf) for path, leaf in paths.flatten(tree).items()}


def _blocks(file: epath.Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            yield block


def _crc32(file: epath.Path) -> int:
    crc = 0
    for block in _blocks(file):
        crc = zlib.crc32(block, crc)
    return crc


def _md5(file: epath.Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for block in _blocks(file):
        digest.update(block)
    return digest.hexdigest()


def _digest(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def write(directory: epath.Path, leaves: dict[str, Leaf], meta: dict[str, Any]) -> None:
    """Writes the index of the complete array store in `directory`."""
    present = storage.listing(directory)
    names = sorted((n for n in present if n.split("/")[-1] not in _NOT_INDEXED), key=lambda name: name.split("/"))
    files: dict[str, dict[str, Any]] = {name: {"bytes": present[name].bytes} for name in names}
    if not storage.is_remote(directory):
        for name in names:
            files[name]["crc32"] = _crc32(directory / name)
    else:
        smallest = min(names, key=lambda name: present[name].bytes)
        etag_is_md5 = _md5(directory / smallest) == present[smallest].etag
        for name in names:
            if etag_is_md5:
                files[name]["md5"] = present[name].etag
            else:
                files[name] |= {"md5": _md5(directory / name), "etag": present[name].etag}
    content = {"leaves": {p: dataclasses.asdict(leaf) for p, leaf in leaves.items()}, "files": files, "meta": meta}
    (directory / NAME).write_text(json.dumps({**content, "crc32": _digest(content)}, indent=1))


def read(directory: epath.Path) -> CheckpointIndex:
    """Reads the index of the checkpoint in `directory`.

    Raises:
      CheckpointError: there is no index, or it is damaged.
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
    """Compares the leaves of a checkpoint with those of the target.

    Raises:
      CheckpointError: naming every leaf that is missing, extra, misshaped or mistyped, by path.
    """
    wrong = [f"  missing    {path}  {leaf}" for path, leaf in target.items() if path not in saved]
    wrong += [f"  extra      {path}  {leaf}" for path, leaf in saved.items() if path not in target]
    for path in saved.keys() & target.keys():
        actual, expected = saved[path], target[path]
        if actual.shape != expected.shape:
            wrong.append(f"  misshaped  {path}  saved {actual}, expected {expected}")
        elif actual.dtype != expected.dtype:
            wrong.append(f"  mistyped   {path}  saved {actual}, expected {expected}")
    if wrong:
        raise CheckpointError(
            f"checkpoint {directory} does not fit: {len(wrong)} differences\n" + "\n".join(sorted(wrong))
        )


def verify(directory: epath.Path, index: CheckpointIndex) -> None:
    """Compares the files of the array store with the index.

    Raises:
      CheckpointError: a file is missing, of another length, or altered.
    """
    present = storage.listing(directory)
    for name, expected in index.files.items():
        if name not in present:
            raise CheckpointError(f"checkpoint {directory} is damaged: {name} is missing")
        length = present[name].bytes
        if length != expected["bytes"]:
            raise CheckpointError(
                f"checkpoint {directory} is damaged: {name} has {length} bytes instead of {expected['bytes']}"
            )
        if _is_altered(directory / name, present[name].etag, expected):
            raise CheckpointError(f"checkpoint {directory} is damaged: {name} has been altered")


def _is_altered(file: epath.Path, etag: str, expected: dict[str, Any]) -> bool:
    if "crc32" in expected:
        return _crc32(file) != expected["crc32"]
    if "md5" not in expected or (etag and etag in (expected["md5"], expected.get("etag"))):
        return False  # in indices of earlier versions there is only the size
    return _md5(file) != expected["md5"]
