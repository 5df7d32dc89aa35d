"""Reads byte ranges of files on disk, and on gs:// or s3://, where a request costs tens of milliseconds and may fail.

Ranges of a stored file that are close to each other are read by one request, and requests are made at the same time.
An error that may pass (a connection, a server) is tried again, after

    wait k  =  u · FIRST_WAIT · 2^k seconds,    u ~ U[0.5, 1.5],  k = 0, …, ATTEMPTS - 2

and then ends the run with one line. A file that does not exist or may not be read is an error at once.
"""

import io
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from codi_jax import storage
from codi_jax.config import first_line
from codi_jax.storage import StoreError

ATTEMPTS = 7
FIRST_WAIT = 0.5  # seconds; the six waits are half a minute together
MAX_GAP = 64 << 10  # bytes between two ranges that are read together
MAX_REQUEST = 16 << 20  # bytes of a request for several ranges
BLOCK = 8 << 20  # bytes of a request of a stream
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError)

T = TypeVar("T")
Range = tuple[str, int, int]  # path, first byte, byte behind the last one


def read_ranges(ranges: Sequence[Range]) -> list[bytes]:
    """The bytes of each range; fewer where its file is shorter. All are local files, or all of one store.

    Raises:
      FileNotFoundError, PermissionError: there is no such file, or it may not be read.
      OSError: a local disk cannot be read.
      StoreError: the store did not answer in `ATTEMPTS` attempts.
    """
    if not any(storage.is_remote(path) for path, _, _ in ranges):
        return [_read_local(*one) for one in ranges]
    from fsspec.utils import merge_offset_ranges

    system, _ = _system(ranges[0][0])
    names = [path for path, _, _ in ranges]
    starts: list[int | None] = [start for _, start, _ in ranges]
    ends: list[int | None] = [end for _, _, end in ranges]
    merged = merge_offset_ranges(names, starts, ends, MAX_GAP, MAX_REQUEST)
    blocks = {(path, first, last or 0): b"" for path, first, last in zip(*merged, strict=True)}
    missing = [block for block in blocks if block[1] < block[2]]  # a store refuses an empty range

    def fetch() -> None:
        nonlocal missing
        got = system.cat_ranges(*map(list, zip(*missing, strict=True)), on_error="return")
        errors = {}
        for block, data in zip(missing, got, strict=True):
            if isinstance(data, bytes):
                blocks[block] = data
            elif not _is_behind_the_end(data):
                errors[block] = data
        missing = list(errors)
        if errors:
            raise next((e for e in errors.values() if isinstance(e, _PERMANENT)), errors[missing[0]])

    if missing:
        retried(fetch, missing[0][0])
    return [_part(blocks, one) for one in ranges]


def retried(call: Callable[[], T], path: str) -> T:
    """The result of a call of the library of a store, which is repeated while it fails for reasons that may pass.

    Args:
      call: the call.
      path: of the file, for the message.

    Raises:
      FileNotFoundError, PermissionError, IsADirectoryError: as the call.
      StoreError: the store did not answer in `ATTEMPTS` attempts.
    """
    for attempt in range(ATTEMPTS):
        try:
            return call()
        except _PERMANENT:
            raise
        except Exception as error:  # the exception class depends on the library
            if attempt == ATTEMPTS - 1:
                said = first_line(error)
                raise StoreError(
                    f"{path} cannot be read: {said:.200} ({ATTEMPTS} attempts); run the same command again when the "
                    "store answers"
                ) from error
            time.sleep(FIRST_WAIT * 2**attempt * random.uniform(0.5, 1.5))
    raise AssertionError("the last attempt returns or raises")


def stored_files(paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What a store says of files (size, ETag, …; the keys depend on the store), by one listing of each folder.

    Raises:
      FileNotFoundError: one does not exist.
      StoreError: see `read_ranges`.
    """
    out: dict[str, dict[str, Any]] = {}
    for folder in dict.fromkeys(path.rpartition("/")[0] for path in paths):
        system, key = _system(folder)
        listed = retried(lambda system=system, key=key: system.ls(key, detail=True), folder)
        out |= {f"{folder}/{info['name'].rpartition('/')[2]}": info for info in listed}
    if absent := [path for path in paths if path not in out]:
        raise FileNotFoundError(absent[0])
    return {path: out[path] for path in paths}


def open_stream(path: str) -> io.BufferedIOBase:
    """A binary stream of a file; of a stored one it reads `BLOCK` bytes at a time, as `read_ranges` does.

    Raises:
      OSError, StoreError: see `read_ranges`.
    """
    if not storage.is_remote(path):
        return open(path, "rb")
    system, key = _system(path)
    return io.BufferedReader(_Stream(path, int(retried(lambda: system.info(key)["size"], path))), BLOCK)


class _Stream(io.RawIOBase):
    """A stored file of a known size as a raw stream."""

    def __init__(self, path: str, size: int):
        self._path, self._size, self._position = path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        (data,) = read_ranges([(self._path, self._position, end)])
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _system(path: str) -> tuple[Any, str]:
    import fsspec

    storage.as_path(path)  # checks that its library is installed, and configures it
    return fsspec.core.url_to_fs(path)


def _is_behind_the_end(error: Any) -> bool:
    """Whether a store refuses a range because the file ends before it (HTTP 416)."""
    return "InvalidRange" in str(error) or "not satisfiable" in str(error).lower()


def _read_local(path: str, start: int, end: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)  # `open` takes longer than a caption
    try:
        return os.pread(descriptor, end - start, start)
    finally:
        os.close(descriptor)


def _part(blocks: dict[Range, bytes], wanted: Range) -> bytes:
    path, start, end = wanted
    inside = (block for block in blocks if block[0] == path and block[1] <= start and end <= block[2])
    block = next(inside)
    return blocks[block][start - block[1] : end - block[1]]
