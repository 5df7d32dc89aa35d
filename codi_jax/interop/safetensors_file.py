"""Safetensors files, read as views.

8 bytes       length of the header, little-endian, at most 100 MB
header        JSON: name -> {"dtype": "F16", "shape": [2, 3], "data_offsets": [first, end]}, with offsets from the
              end of the header. "__metadata__" (strings by name) is read by `read_metadata` alone
the rest      the elements of the tensors, row-major; every byte belongs to exactly one tensor
"""

import json
from typing import Any

import ml_dtypes
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop.mapped import MAX_TENSORS, check_key, elements, is_natural, plain, view

_MAX_HEADER = 100_000_000
_METADATA = "__metadata__"

_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins with these bytes (at least nine) is a safetensors file."""
    return len(head) >= 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER


def _header(data: np.ndarray) -> tuple[dict[str, Any], int]:
    """The header, and the byte offset of the elements."""
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > data.size - 8:
        raise ConfigError("is damaged: its header reaches beyond its end; is the download incomplete?")
    objects = 0

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal objects
        objects += 1
        if objects > MAX_TENSORS + 2:
            raise ConfigError(f"refused: it has over {MAX_TENSORS} tensors")
        out = dict(pairs)
        if len(out) != len(pairs):
            raise ConfigError("refused: its header has a name twice")
        return out

    try:
        header = json.loads(data[8 : 8 + length].tobytes().decode(), object_pairs_hook=unique_keys)
    except ConfigError:
        raise
    except (ValueError, RecursionError):
        raise ConfigError("is damaged: its header is not JSON") from None
    if type(header) is not dict:
        raise ConfigError("is damaged: its header is not a JSON object")
    return header, 8 + length


def _spec(entry: Any) -> tuple[np.dtype, list[int], int, int]:
    """The dtype, shape, first byte and the byte after the last one of an entry of the header."""
    match entry:
        case {"dtype": str(name), "shape": list(shape), "data_offsets": [first, end]} if len(entry) == 3:
            if name not in _DTYPES:
                raise ConfigError(f"has the unsupported type {plain(name)}")
            dtype = _DTYPES[name]
            size = elements(shape, dtype.itemsize) * dtype.itemsize
            if not is_natural(first) or not is_natural(end) or end - first != size:
                raise ConfigError("has data_offsets that do not match its shape")
            return dtype, shape, first, end
    raise ConfigError("is not described by dtype, shape and data_offsets")


def read_safetensors(data: np.ndarray) -> dict[str, np.ndarray]:
    """Reads the tensors of a safetensors file.

    Args:
      data: the file, from `map_file`.

    Returns:
      Key -> read-only view of `data`.

    Raises:
      ConfigError: the file violates the format.
    """
    header, begin = _header(data)
    header.pop(_METADATA, None)
    if not header:
        raise ConfigError("it has no tensors")
    out, spans = {}, []
    for key, entry in header.items():
        check_key(key)
        try:
            dtype, shape, first, end = _spec(entry)
            out[key] = view(data, dtype, begin + first, shape)
        except ConfigError as error:
            raise ConfigError(f"refused: tensor {plain(key)} {error}") from None
        spans.append((first, end, key))
    at = 0
    for first, end, key in sorted(spans):
        if first != at:
            raise ConfigError(
                f"refused: tensor {plain(key)} {'overlaps' if first < at else 'leaves a gap after'} another"
            )
        at = end
    if begin + at != data.size:
        raise ConfigError("refused: bytes at its end belong to no tensor")
    return out


def read_metadata(data: np.ndarray) -> dict[str, str]:
    """The metadata of a safetensors file, from `map_file`: strings by name, {} if it has none.

    Raises:
      ConfigError: the file violates the format.
    """
    metadata = _header(data)[0].get(_METADATA, {})
    if type(metadata) is not dict or not all(type(value) is str for value in metadata.values()):
        raise ConfigError("is damaged: its metadata are not strings by name")
    return metadata
