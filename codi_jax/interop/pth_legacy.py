"""Files of torch before 1.6, which pickle after pickle lie in without a table of contents.

    magic number, version 1001, facts about the machine     three pickles
    the dicts of tensors, which refer to storages           a pickle, as in today's files
    the keys of the storages                                a pickle: a list, in the order in which they follow
    of each storage the number of elements (int64), and its elements

Published weights of 2019 and 2020 have this format: HiFi-GAN, BERT, FID's Inception-v3, VGGish.
"""

from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop import pth_pickle
from codi_jax.interop.mapped import plain
from codi_jax.interop.pth_tree import views

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
MAGIC_BYTES = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")  # of its pickle, after the two of the protocol


def read_legacy(data: np.ndarray) -> dict[str, np.ndarray]:
    """Reads the tensors of a file of torch before 1.6.

    Args:
      data: the file, from `map_file`.

    Returns:
      As `pth.read_pth`.

    Raises:
      ConfigError: the file is damaged, holds no tensors, or an object that `pth_inert` does not skip.
    """
    at, storages = 0, {}
    parts: list[Any] = []
    for _ in range(5):
        part, end, found = pth_pickle.load_one(data[at : at + pth_pickle.MAX_BYTES].tobytes())
        parts.append(part)
        storages |= found
        at += end
    magic, version, machine, tree, keys = parts
    if (magic, version) != (_MAGIC, _VERSION):
        raise ConfigError(f"refused: its version {plain(str(version))} of the legacy PyTorch format is not {_VERSION}")
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise ConfigError("its byte order is not little-endian")
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ConfigError("is damaged: it has no list of its storages")
    ranges = {}
    for key in keys:
        if key not in storages or key in ranges:
            raise ConfigError(f"is damaged: it has the storage {plain(key)} for no tensor, or twice")
        size = storages[key].dtype.itemsize
        count = int.from_bytes(data[at : at + 8].tobytes(), "little")
        if at + 8 + count * size > data.size:
            raise ConfigError("reaches beyond the end of the file; is the download incomplete?")
        ranges[key] = at + 8, at + 8 + count * size
        at = ranges[key][1]
    if at != data.size:
        raise ConfigError("refused: bytes at its end belong to no tensor")
    return views(data, tree, ranges)
