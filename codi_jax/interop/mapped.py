"""Files of weights as arrays without copies: the file is memory-mapped, a tensor is a read-only view of the map.

Files are untrusted, so offsets, shapes and strides are validated against the map before a view is created. Functions of
this module and of its users raise `ConfigError` without the file's name, which `tensors.open_state` adds.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError

MAX_TENSORS = 1 << 16
_MAX_KEY = 1024  # characters
_MAX_AXES = 64  # numpy's own limit
_MAX_EXPANDED = 1 << 24  # elements of a tensor that repeats stored elements by strides of 0


def map_file(path: Path) -> np.ndarray:
    """The bytes of a file as a read-only array [bytes], memory-mapped; read, if it is in an object store.

    Raises:
      ConfigError: the file does not exist, is empty or cannot be read.
    """
    try:
        if not path.exists():
            raise ConfigError("there is no such file")
        if not path.is_file():
            raise ConfigError("this is not a file")
        remote = storage.is_remote(path)
        data = np.frombuffer(path.read_bytes(), np.uint8) if remote else None
        if not (path.stat().st_size if data is None else data.size):
            raise ConfigError("the file is empty")
        return np.memmap(path, np.uint8, mode="r").view(np.ndarray) if data is None else data
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or type(error).__name__}") from None


def plain(text: str) -> str:
    """Text from a file made safe for messages: short, on one line and without control characters."""
    text = text if len(text) <= 100 else f"{text[:100]}…"
    return text if text.isprintable() else repr(text)


def check_key(key: object) -> str:
    """The name of a tensor, after a check that messages can show it.

    Raises:
      ConfigError: it is not a printable string, or too long.
    """
    if type(key) is not str or not key.isprintable():
        shown = plain(key) if type(key) is str else "by something other than a string"
        raise ConfigError(f"refused: a tensor is named {shown}")
    if len(key) > _MAX_KEY:
        raise ConfigError(f"refused: a tensor's name is over {_MAX_KEY} characters long: {plain(key)}")
    return key


def is_natural(number: object) -> bool:
    """Whether this is an integer (not a bool) that can be an index, a length or an offset."""
    return type(number) is int and 0 <= number < 1 << 63


def elements(shape: Sequence[int], itemsize: int) -> int:
    """The number of elements of a shape.

    Raises:
      ConfigError: no array can have this shape.
    """
    if len(shape) > _MAX_AXES or not all(map(is_natural, shape)):
        raise ConfigError("has an invalid shape")
    # Without the axes of length 0, since numpy also multiplies the others.
    if itemsize * math.prod(n for n in shape if n) >= 1 << 63:
        raise ConfigError(f"no tensor can be as large as {'x'.join(map(str, shape))}")
    return math.prod(shape)


def view(data: np.ndarray, dtype: np.dtype, start: int, shape: Sequence[int]) -> np.ndarray:
    """A contiguous tensor (row-major) as a view.

    Args:
      data: the file, from `map_file`.
      dtype: of the elements.
      start: byte offset of the first element.
      shape: of the tensor.

    Raises:
      ConfigError: the tensor is not inside the file.
    """
    if start < 0 or start + elements(shape, dtype.itemsize) * dtype.itemsize > data.size:
        raise ConfigError("reaches beyond the end of the file; is the download incomplete?")
    return np.ndarray(tuple(shape), dtype, buffer=data, offset=start)


def strided_view(
    data: np.ndarray,
    dtype: np.dtype,
    start: int,
    stored: int,
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
) -> np.ndarray:
    """A strided tensor as a view of a storage, which one or more tensors share.

    Args:
      data: the file, from `map_file`.
      dtype: of the elements.
      start: byte offset of the storage.
      stored: number of elements of the storage.
      offset: index of the tensor's first element in the storage.
      shape: of the tensor.
      strides: one per axis, in elements.

    Raises:
      ConfigError: the tensor is not inside the storage.
    """
    count = elements(shape, dtype.itemsize)
    if len(strides) != len(shape) or not all(map(is_natural, (offset, *strides))):
        raise ConfigError("has strides that do not match its shape")
    if not count:
        return view(data, dtype, start, shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if last >= stored:
        raise ConfigError(f"reaches element {last} of a storage of {stored}")
    if count > max(stored, _MAX_EXPANDED):
        raise ConfigError(f"has {count} elements, repeated from {stored}")
    # The stride of an axis of length 1 may be any number, also one that numpy cannot represent.
    steps = [step * dtype.itemsize if n > 1 else 0 for n, step in zip(shape, strides, strict=True)]
    return np.ndarray(tuple(shape), dtype, buffer=data, offset=start + offset * dtype.itemsize, strides=steps)
