"""Files of weights as arrays without copying: the file is mapped into memory, a tensor is a read-only view of the map.

Files come from strangers, so whatever they say of a tensor is held against the map before it becomes a view. Functions
of this and of the modules above it raise `ConfigError` without the file's name, which `tensors.open_state` adds.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax.config import ConfigError

MAX_TENSORS = 1 << 16
_MAX_KEY = 1024  # characters
_MAX_AXES = 64  # numpy's own limit
_MAX_EXPANDED = 1 << 24  # elements of a tensor that repeats what is stored, by strides of 0


def map_file(path: Path) -> np.ndarray:
    """The bytes of a file as a read-only array that stays on disk until it is looked at.

    Raises:
      ConfigError: there is no such file, or it is empty or cannot be read.
    """
    try:
        if not path.exists():
            raise ConfigError("there is no such file")
        if not path.is_file():
            raise ConfigError("this is not a file")
        if not path.stat().st_size:
            raise ConfigError("the file is empty")
        return np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or type(error).__name__}") from None


def plain(text: str) -> str:
    """Text from a file as it may be shown: short, on one line and without control characters."""
    text = text if len(text) <= 100 else f"{text[:100]}…"
    return text if text.isprintable() else repr(text)


def check_key(key: Any) -> str:
    """A tensor's name, if it is one that messages can show.

    Raises:
      ConfigError: it is not.
    """
    if type(key) is not str or not key.isprintable():
        raise ConfigError(f"refused: a tensor is named {plain(str(key)) if type(key) is str else 'by no text'}")
    if len(key) > _MAX_KEY:
        raise ConfigError(f"refused: a tensor's name is over {_MAX_KEY} characters long: {plain(key)}")
    return key


def is_natural(number: Any) -> bool:
    """Whether it is an integer that may be an index, a length or an offset; True is not."""
    return type(number) is int and 0 <= number < 1 << 63


def elements(shape: Sequence[int], itemsize: int) -> int:
    """The number of elements of a shape.

    Raises:
      ConfigError: there can be no array of this shape.
    """
    if len(shape) > _MAX_AXES or not all(map(is_natural, shape)):
        raise ConfigError("its shape is not one")
    # Without the axes of length 0, since numpy multiplies the others all the same.
    if itemsize * math.prod(n for n in shape if n) >= 1 << 63:
        raise ConfigError(f"no tensor can be as large as {'x'.join(map(str, shape))}")
    return math.prod(shape)


def view(data: np.ndarray, dtype: np.dtype, start: int, shape: Sequence[int]) -> np.ndarray:
    """The elements from byte `start` on, row after row.

    Args:
      data: the file, from `map_file`.
      dtype: of the elements.
      start: where the first one is.
      shape: of the tensor.

    Raises:
      ConfigError: that is not inside the file.
    """
    if start < 0 or start + elements(shape, dtype.itemsize) * dtype.itemsize > data.size:
        raise ConfigError("reaches beyond the end of the file; was its download cut short?")
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
    """Elements of a storage, which is what one or more tensors are taken from.

    Args:
      data: the file, from `map_file`.
      dtype: of the elements.
      start: byte at which the storage begins.
      stored: its number of elements.
      offset: the tensor's first element in it.
      shape: of the tensor.
      strides: in elements, an axis each.

    Raises:
      ConfigError: that is not inside the storage.
    """
    count = elements(shape, dtype.itemsize)
    if len(strides) != len(shape) or not all(map(is_natural, (offset, *strides))):
        raise ConfigError("its strides are not ones of its shape")
    if not count:
        return view(data, dtype, start, shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if last >= stored:
        raise ConfigError(f"reaches to element {last} of a storage of {stored}")
    if count > max(stored, _MAX_EXPANDED):
        raise ConfigError(f"has {count} elements, made of {stored} by repetition")
    # The stride of an axis of length 1 may be any number, one that numpy cannot hold too.
    steps = [step * dtype.itemsize if n > 1 else 0 for n, step in zip(shape, strides, strict=True)]
    return np.ndarray(tuple(shape), dtype, buffer=data, offset=start + offset * dtype.itemsize, strides=steps)
