"""Sources in memory: nested dicts of arrays, from an .npz file or from the caller."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError, config_class
from codi_jax.data.source import register


class Arrays:
    """A source in memory: a nested dict of arrays whose first axis is the sample."""

    def __init__(self, arrays: Mapping[str, Any]):
        self.arrays = jax.tree.map(np.asarray, dict(arrays))
        leaves = jax.tree.leaves_with_path(self.arrays)
        lengths = {jax.tree_util.keystr(path): len(leaf) if leaf.ndim else None for path, leaf in leaves}
        distinct = {length for length in lengths.values() if length is not None}
        if len(distinct) != 1 or None in lengths.values():
            raise ConfigError(f"the arrays of a data set must have one length, got {lengths}")
        (self._length,) = distinct

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return jax.tree.map(lambda x: x[index], self.arrays)

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        return jax.tree.map(lambda x: x[np.asarray(indices)], self.arrays)


@config_class()
class ArraysConfig:
    """Config of a source of arrays.

    Attributes:
      path: an .npz file, local or on gs:// or s3://.
    """

    path: str


@register("arrays", ArraysConfig)
def _arrays(config: ArraysConfig) -> Arrays:
    try:
        with storage.as_path(config.path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Arrays(dict(arrays))
    except ConfigError:
        raise
    except Exception as error:  # zipfile and numpy raise what they like: NotImplementedError, tokenize.TokenError
        raise ConfigError(f"{config.path}: not a readable .npz file of arrays ({error})") from error
