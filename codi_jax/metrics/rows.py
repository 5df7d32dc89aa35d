"""Features of all samples, kept up to a stated number, for metrics that compare samples with each other.

A kernel distance or a manifold needs the samples themselves, which no state of a size that is independent of their
number can hold. The state here has the size of a stated limit instead, limit · F · 4 bytes, of which the system
provides memory as rows are written. Up to the limit it is exact, and beyond it raises an error: a sample of the samples
(a reservoir) would make the numbers depend on draws.

States share one array: a state is its first `number` rows, so that a batch is appended in place, unless another state
has appended to the same array before; then the rows are copied.
"""

from typing import NamedTuple

import numpy as np

LIMIT = 50_000  # samples, the number that published FIDs and KIDs are of


class Rows(NamedTuple):
    """Features of samples.

    Attributes:
      number: of the samples, n, int64 [].
      filled: rows of the array that are in use by any state, int64 []; shared by the states that share `rows`.
      rows: float32 [limit, F], whose first n rows are the samples.
    """

    number: np.ndarray
    filled: np.ndarray
    rows: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """The features, float32 [n, F], a view."""
        return self.rows[: int(self.number)]


def empty(limit: int, size: int) -> Rows:
    """No samples; room for `limit` of `size` features.

    Raises:
      ValueError: no room.
    """
    if limit < 1 or size < 1:
        raise ValueError(f"expected room for at least one sample of one feature, got {limit} of {size}")
    return Rows(np.zeros((), np.int64), np.zeros((), np.int64), np.zeros((limit, size), np.float32))


def append(state: Rows, batch: np.ndarray) -> Rows:
    """The state with the samples of a batch [b, F].

    Raises:
      ValueError: another shape, features that are not finite, or more samples than the limit.
    """
    limit, size = state.rows.shape
    batch = check_features(batch, size=size)
    number = int(state.number)
    total = number + len(batch)
    if total > limit:
        raise ValueError(f"{total} samples, but this metric keeps at most {limit}; give a larger limit")
    filled, rows = state.filled, state.rows
    if int(filled) != number or not (filled.flags.writeable and rows.flags.writeable):
        filled, rows = np.array(number), np.zeros_like(rows)
        rows[:number] = state.kept
    rows[number:total] = batch
    filled[...] = total
    return Rows(np.array(total), filled, rows)


def check_features(
    features: np.ndarray, *, name: str = "features", least: int = 0, size: int | None = None
) -> np.ndarray:
    """The features as an array, after a check.

    Args:
      features: [n, F].
      name: for the message.
      least: fewest samples.
      size: F, if it is known.

    Raises:
      ValueError: another rank, too few samples, another F, or features that are not finite numbers.
    """
    array = np.asarray(features) if not isinstance(features, np.ndarray) else features
    wanted = f"[n, {'F' if size is None else size}]" + (f" with n >= {least}" if least else "")
    if array.ndim != 2 or len(array) < least or size not in (None, array.shape[1]) or not array.shape[1]:
        raise ValueError(f"expected {name} {wanted}, got shape {array.shape}")
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"expected {name} of real numbers, got {array.dtype}")
    for start in range(0, len(array), 4096):  # a memory map is read in blocks
        block = array[start : start + 4096]
        if not np.isfinite(block).all():
            row = start + int(np.flatnonzero(~np.isfinite(block).all(1))[0])
            raise ValueError(f"{name}: row {row} has a value that is not finite")
    return array


def blocks(rows: int, size: int) -> list[slice]:
    """Consecutive slices of at most `size` of `rows` rows.

    Raises:
      ValueError: size < 1.
    """
    if size < 1:
        raise ValueError(f"expected blocks of at least one row, got {size}")
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
