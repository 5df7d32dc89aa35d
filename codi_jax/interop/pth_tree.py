"""The tensors in what the pickle of a PyTorch file holds: nested dicts, by dotted names, as views of the file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop.mapped import MAX_TENSORS, check_key, plain, strided_view
from codi_jax.interop.pth_inert import RESAVE, Inert
from codi_jax.interop.pth_tensors import Tensor

_MAX_DEPTH = 32
_MAX_ITEMS = 1 << 20  # of all dicts together; a dict that is referenced several times counts each time


def flat(tree: dict) -> dict[str, Tensor]:
    """The tensors of nested dicts by their dotted paths; other values are skipped.

    Raises:
      ConfigError: a tensor has no valid name or lies too deep, or one that cannot be read lies beside some that can.
    """
    out: dict[str, Tensor] = {}
    unread: dict[str, tuple[dict, str]] = {}
    holders: set[int] = set()  # the dicts with tensors
    path: list[str] = []
    seen, above = 0, [tree]
    rest = [iter(tree.items())]
    while rest:
        if (item := next(rest[-1], None)) is None:
            rest.pop()
            above.pop()
            del path[-1:]
            continue
        key, value = item
        seen += 1
        if seen > _MAX_ITEMS:
            raise ConfigError(f"refused: its dicts have over {_MAX_ITEMS} items")
        if isinstance(value, dict) and not any(value is node for node in above[-_MAX_DEPTH:]):
            rest.append(iter(value.items()))
            above.append(value)
            path.append(str(key))
        elif isinstance(value, Tensor) or (isinstance(value, Inert) and value.tensor):
            if len(above) > _MAX_DEPTH:
                raise ConfigError(f"refused: its dicts are nested over {_MAX_DEPTH} levels deep")
            name = ".".join([*path, str(key)])
            if isinstance(value, Inert):
                unread[name] = above[-1], value.name
                continue
            if check_key(name) in out:
                raise ConfigError(f"refused: it has two tensors named {plain(name)}")
            if len(out) == MAX_TENSORS:
                raise ConfigError(f"refused: it has over {MAX_TENSORS} tensors")
            out[name] = value
            holders.add(id(above[-1]))
    for name, (holder, kind) in unread.items():
        if id(holder) in holders or not out:
            raise ConfigError(f"refused: its tensor {plain(name)} is of a kind that is not read: {plain(kind)}")
    return out


def _without_tensors(tree: Any) -> str:
    """What a pickle without tensors holds, for a message."""
    if type(tree) is Inert:
        return f"refused: it holds a pickled {plain(tree.name)}, not tensors by name; {RESAVE}"
    if not isinstance(tree, dict):
        return "it does not hold a dict of tensors by name"
    objects = {str(key): value.name for key, value in tree.items() if type(value) is Inert}
    for key, name in objects.items():
        return f"refused: it has no tensors, but {plain(key)} is a pickled {plain(name)}; {RESAVE}"
    return "it has no tensors"


def views(data: np.ndarray, tree: Any, ranges: Mapping[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    """The tensors of a pickle as views of its file.

    Args:
      data: the file, from `map_file`.
      tree: what the pickle holds.
      ranges: key of a storage -> its first byte and the byte after the last one.

    Raises:
      ConfigError: see `flat`; or there is no tensor, or one is not in its storage.
    """
    tensors = flat(tree) if isinstance(tree, dict) else {}
    if not tensors:
        raise ConfigError(_without_tensors(tree))
    return {key: _view(data, ranges, key, tensor) for key, tensor in tensors.items()}


def _view(data: np.ndarray, ranges: Mapping[str, tuple[int, int]], key: str, tensor: Tensor) -> np.ndarray:
    storage = tensor.storage
    start, end = ranges.get(storage.key, (0, -1))
    if end < start:
        raise ConfigError(f"is damaged: the storage {plain(storage.key)} of {plain(key)} is missing")
    if storage.stored * storage.dtype.itemsize != end - start:
        raise ConfigError(
            f"is damaged: the storage of {plain(key)} is {storage.stored} {storage.dtype} in {end - start} bytes"
        )
    try:
        return strided_view(data, storage.dtype, start, storage.stored, tensor.offset, tensor.shape, tensor.strides)
    except ConfigError as error:
        raise ConfigError(f"refused: tensor {plain(key)} {error}") from None
