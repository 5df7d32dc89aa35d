"""Samples of one structure in .npy files, which are read by position, on disk and in an object store.

    00000.npy, 00001.npy, …    structured arrays [n], whose fields are the leaves of samples by path,
                               as in ("image/mean", "<f4", (8, 8, 4))

All samples have the same number of bytes, so they need no index, and reading some of them reads their bytes alone.
"""

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.parallel import paths
from codi_jax.range_reads import read_ranges

_HEADER = 1 << 16  # bytes that are read to find a header, which takes some hundreds


def write(path: Path, samples: Any) -> None:
    """Writes samples, a nested dict of arrays [n, …], to a local file."""
    leaves = {name: np.asarray(leaf) for name, leaf in paths.flatten(samples).items()}
    dtype = np.dtype([(name, leaf.dtype, leaf.shape[1:]) for name, leaf in leaves.items()])
    records = np.empty(len(next(iter(leaves.values()))), dtype)
    for name, leaf in leaves.items():
        records[name] = leaf
    np.save(path, records, allow_pickle=False)


class NpyRecords:
    """The samples of all files NUMBER.npy in a folder, in the order of their names."""

    def __init__(self, folder: Path):
        """Reads the first header and the sizes of the files.

        Raises:
          ConfigError: there are no files, or one is not of such samples or incomplete.
        """
        sizes = {name: size for name, size in storage.files(folder).items() if re.fullmatch(r"\d+\.npy", name)}
        self._files = [str(folder / name) for name in sorted(sizes)]
        if not self._files:
            raise ConfigError(f"{folder}: no files of samples")
        self._dtype, self._begin = _header(self._files[0])
        bodies = np.asarray([sizes[name] - self._begin for name in sorted(sizes)])
        for file, size in zip(self._files, bodies.tolist(), strict=True):
            if size <= 0 or size % self._dtype.itemsize:
                raise ConfigError(f"{file}: not a whole number of samples of {self._dtype.itemsize} bytes")
        self._ends = np.cumsum(bodies // self._dtype.itemsize)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return paths.nest({name: leaf[0] for name, leaf in self._read([index]).items()})

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """The samples `indices`, stacked.

        Raises:
          ConfigError: a file is gone or has been cut, or a store does not answer.
        """
        return paths.nest(self._read(indices))

    def _read(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        indices = np.asarray(indices)
        file = np.searchsorted(self._ends, indices, side="right")
        row = indices - np.concatenate(([0], self._ends))[file]
        size = self._dtype.itemsize
        starts = (self._begin + size * row).tolist()
        wanted = [(self._files[k], start, start + size) for k, start in zip(file.tolist(), starts, strict=True)]
        try:
            data = read_ranges(wanted)
        except OSError as error:
            raise ConfigError(f"{error.filename or error}: the file cannot be read any more") from error
        for (path, _, _), part in zip(wanted, data, strict=True):
            if len(part) < size:
                raise ConfigError(f"{path}: the file has been cut")
        records = np.frombuffer(b"".join(data), self._dtype)
        return {name: np.ascontiguousarray(records[name]) for name in self._dtype.names or ()}


def _header(path: str) -> tuple[np.dtype, int]:
    """The dtype of the samples of a file, and the offset of the first one."""
    try:
        stream = BytesIO(read_ranges([(path, 0, _HEADER)])[0])
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[np.lib.format.read_magic(stream)](stream)
        if len(shape) == 1 and dtype.names and not dtype.hasobject and dtype.itemsize:
            return dtype, stream.tell()
    except ConfigError:
        raise
    except Exception:  # numpy parses the header as Python and raises what it likes: tokenize.TokenError
        pass
    raise ConfigError(f"{path}: not a .npy file of samples")
