"""Requests larger than a batch, in chunks of one size: all are computed by the same compiled programs."""

import jax
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.progress import ProgressFn
from codi_jax.rng import fold


def split(n: int, batch_size: int | None) -> list[np.ndarray]:
    """The rows of each chunk of n samples: one chunk if they fit, else chunks of `batch_size`, the last row repeated.

    Raises:
      ConfigError: `batch_size` is not positive.
    """
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size: expected a positive number, got {batch_size}")
    if batch_size is None or n <= batch_size:
        return [np.arange(n)]
    return [np.minimum(np.arange(start, start + batch_size), n - 1) for start in range(0, n, batch_size)]


def key_of_chunk(key: jax.Array, k: int, rows: np.ndarray) -> jax.Array:
    """The key of chunk k: the keys of its rows; or, of one key, itself for k = 0, else folded with ("chunk", k)."""
    if key.ndim:
        return key[rows]
    return fold(key, "chunk", k) if k else key


def progress_of_chunk(progress: ProgressFn | None, k: int, total: int) -> ProgressFn | None:
    """A callback that names the chunk after the activity; `progress` itself if there is only one chunk."""
    if progress is None or total < 2:
        return progress
    return lambda activity, done=0, steps=0, /: progress(f"{activity}, chunk {k + 1} of {total}", done, steps)
