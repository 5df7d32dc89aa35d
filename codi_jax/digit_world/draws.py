"""Stateless random numbers: a function of (seed, name, index).

    u(seed, name, i) = mix(mix(key + i·γ) xor key) / 2^64,    key = BLAKE2b("seed/name"),    γ = 2^64 / golden ratio

mix is the finalizer of SplitMix64 (Steele, Lea and Flood 2014). A sample is the same in any process, order and batch; a
new name does not change the numbers of other names; and many samples are drawn by a few array operations, which a
generator object per sample would not allow.
"""

import functools
import hashlib
from collections.abc import Sequence

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


@functools.lru_cache(maxsize=256)
def _keys(seed: str, names: tuple[str, ...]) -> np.ndarray:
    digests = [hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest() for name in names]
    return np.array([[int.from_bytes(digest, "little")] for digest in digests], np.uint64)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(seed: str, names: Sequence[str], index: np.ndarray) -> dict[str, np.ndarray]:
    """Draws uniform numbers in [0, 1), independent over seeds, names and indices.

    Args:
      seed: any string.
      names: the names of the random variables.
      index: [N], non-negative integers.

    Returns:
      name -> [N] float64.
    """
    keys = _keys(seed, tuple(names))
    bits = _mix(_mix(keys + index.astype(np.uint64)[None] * _GAMMA) ^ keys)
    return dict(zip(names, (bits >> np.uint64(11)) * 2.0**-53, strict=True))


def choose(u: np.ndarray, count: int | np.ndarray) -> np.ndarray:
    """Maps uniform numbers in [0, 1) to integers in [0, count)."""
    return (u * count).astype(np.int64)
