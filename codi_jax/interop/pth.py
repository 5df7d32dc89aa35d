"""PyTorch's `.pth` files (also .pt, .bin, .ckpt), read as views and written without PyTorch.

Since torch 1.6 such a file is a zip archive of uncompressed entries in one folder of any name:

    archive/data.pkl        a pickle: dicts of tensors, which refer to storages
    archive/byteorder       "little"; absent in older files
    archive/data/0, 1, …    the storages: only elements, aligned to 64 bytes
    archive/version         "3"

Two tensors of one storage are tied. `pth_legacy` reads files from before torch 1.6; TorchScript archives are refused.
"""

import dataclasses
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.interop import pth_pickle
from codi_jax.interop.mapped import check_key, elements, plain
from codi_jax.interop.pth_tensors import DTYPES
from codi_jax.interop.pth_tree import views
from codi_jax.interop.pth_zip import Archive

_ALIGNMENT = 64
_PADDING = 0x4246  # id of the extra field that PyTorch uses for alignment, "FB"


def read_pth(data: np.ndarray) -> dict[str, np.ndarray]:
    """Reads the tensors of a PyTorch archive.

    Args:
      data: the file, from `map_file`.

    Returns:
      Key -> read-only view of `data`; the keys of nested dicts are joined by dots.

    Raises:
      ConfigError: the archive is damaged, holds no tensors, or an object that `pth_inert` does not skip.
    """
    archive = Archive(data)
    folders = [name.partition("/")[0] for name in archive.ranges if name.partition("/")[2] == "data.pkl"]
    if len(folders) != 1:
        raise ConfigError("is a zip archive, but not of PyTorch: it does not have one data.pkl")
    folder = folders[0]
    if any(name == f"{folder}/constants.pkl" or name.startswith(f"{folder}/code/") for name in archive.ranges):
        raise ConfigError(
            "refused: it is a TorchScript archive, which is a program; save only its tensors: "
            "torch.save(torch.jit.load(...).state_dict(), ...)"
        )
    if archive.packed:
        raise ConfigError(f"refused: its entry {plain(archive.packed[0])} is compressed or encrypted")
    if (order := f"{folder}/byteorder") in archive.ranges and archive.read(order, 16) != b"little":
        raise ConfigError("its byte order is not little-endian")
    tree = pth_pickle.load(archive.read(f"{folder}/data.pkl", pth_pickle.MAX_BYTES))
    storages = f"{folder}/data/"
    ranges = {name.removeprefix(storages): at for name, at in archive.ranges.items() if name.startswith(storages)}
    return views(data, tree, ranges)


@dataclasses.dataclass(frozen=True)
class Item:
    """A tensor to write.

    Attributes:
      key: its name.
      shape: its shape.
      dtype: its dtype, one that PyTorch supports.
      read: returns the array; called once, when the tensor is written.
    """

    key: str
    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[], np.ndarray]


_STORAGES = {dtype: name.partition(".")[2] for name, dtype in DTYPES.items()}


def _text(text: str) -> bytes:
    encoded = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _int(number: int) -> bytes:
    if number < 1 << 31:
        return pickle.BININT + struct.pack("<i", number)
    encoded = pickle.encode_long(number)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


def _tuple(*parts: bytes) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def _call(module: str, name: str, *args: bytes) -> bytes:
    return _global(module, name) + _tuple(*args) + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _pickled(item: Item, number: int) -> bytes:
    """The pickle of a contiguous tensor that fills storage `number`."""
    count, strides, step = elements(item.shape, 1), [], 1
    for n in reversed(item.shape):
        strides.insert(0, step)
        step *= max(1, n)
    kind = _global("torch", _STORAGES[np.dtype(item.dtype)])
    storage = _tuple(_text("storage"), kind, _text(str(number)), _text("cpu"), _int(count)) + pickle.BINPERSID
    shape, strides = (_tuple(*map(_int, numbers)) for numbers in (item.shape, strides))
    hooks = _call("collections", "OrderedDict")
    return _call("torch._utils", "_rebuild_tensor_v2", storage, _int(0), shape, strides, pickle.NEWFALSE, hooks)


def _checked(items: Iterable[Item], ties: Mapping[str, str]) -> dict[str, Item]:
    out: dict[str, Item] = {}
    for item in items:
        if check_key(item.key) in out:
            raise ConfigError(f"two tensors are named {item.key}")
        if np.dtype(item.dtype) not in _STORAGES:
            raise ConfigError(f"{item.key}: PyTorch does not support {np.dtype(item.dtype)}")
        try:
            elements(item.shape, np.dtype(item.dtype).itemsize)
        except ConfigError as error:
            raise ConfigError(f"{item.key}: {error}") from None
        out[item.key] = item
    for alias, key in ties.items():
        if check_key(alias) in out or key not in out:
            raise ConfigError(f"{alias} cannot be tied to {key}: the first must be a new name, the second a tensor")
    return out


def _write_tensor(archive: zipfile.ZipFile, number: int, item: Item) -> None:
    array = np.asarray(item.read())
    if (array.shape, array.dtype) != (tuple(item.shape), np.dtype(item.dtype)):
        expected = f"{np.dtype(item.dtype)} {tuple(item.shape)}"
        raise ConfigError(f"{item.key}: {array.dtype} {array.shape}, expected {expected}")
    info = zipfile.ZipInfo(f"archive/data/{number}")
    info.file_size = array.nbytes
    zip64 = array.nbytes * 1.05 > zipfile.ZIP64_LIMIT  # the condition of zipfile
    assert archive.fp is not None, "the archive is open"
    header = archive.fp.tell() + 30 + len(info.filename) + (20 if zip64 else 0) + 4
    info.extra = struct.pack("<2H", _PADDING, -header % _ALIGNMENT) + bytes(-header % _ALIGNMENT)
    with archive.open(info, "w", force_zip64=zip64) as entry:
        entry.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def write_pth(path: str | Path, items: Iterable[Item], ties: Mapping[str, str] | None = None) -> None:
    """Writes a file that `torch.load(path, weights_only=True)` opens as an OrderedDict of tensors.

    Tensors are read and written one at a time, so that only one is in memory. The file is written atomically.

    Args:
      path: of the file; an existing file is replaced.
      items: the tensors, in order.
      ties: alias -> key of the tensor whose storage it shares; aliases are written after the tensors.

    Raises:
      ConfigError: an item or a tie is invalid, an array does not match its item, or the file cannot be written.
    """
    path, ties = Path(path), ties or {}
    try:
        tensors = _checked(items, ties)
        numbers = {key: number for number, key in enumerate(tensors)}
        entries = [*((key, key) for key in tensors), *ties.items()]
        body = b"".join(_text(name) + _pickled(tensors[key], numbers[key]) for name, key in entries)
        program = pickle.PROTO + b"\2" + _call("collections", "OrderedDict")
        program += pickle.MARK + body + pickle.SETITEMS + pickle.STOP
        with (
            storage.atomic_write(path, shared=True) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
        ):
            archive.writestr(zipfile.ZipInfo("archive/data.pkl"), program)
            archive.writestr(zipfile.ZipInfo("archive/byteorder"), b"little")
            for key, item in tensors.items():
                _write_tensor(archive, numbers[key], item)
            archive.writestr(zipfile.ZipInfo("archive/version"), b"3\n")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
