"""Time offset of one event that two modalities show, such as a bounce in a video and the click in its audio.

Of n samples with the times a_i and b_i in seconds, NaN where a modality is unread, and R the samples read in both,

    offset    = mean_{i in R} |a_i - b_i|
    within τ  = |{ i in R : |a_i - b_i| ≤ τ }| / n        an unread sample is within no tolerance
    unread    = 1 - |R| / n

Two modalities that agree on nothing have events at some offset, too: `shuffled` pairs the times of different samples,
and `all_pairs` every time with every other, whose mean is what independent times with these distributions give.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from codi_jax.metrics.intervals import standard_error

Times = tuple[np.ndarray, np.ndarray]  # a [n] and b [n] in seconds, NaN where unread


def shuffled(times: Times) -> Times:
    """The times of different samples: b is rolled by one."""
    return times[0], np.roll(times[1], 1)


def all_pairs(times: Times) -> Times:
    """Every time of a with every time of b, [n · n]."""
    a, b = times
    return np.repeat(a, len(b)), np.tile(b, len(a))


class OffsetSums(NamedTuple):
    """Sums over samples, float64.

    Attributes:
      total: number of samples, [].
      read: number of those read in both, [].
      absolute: Σ |a - b| over those read, [].
      square: Σ |a - b|² over those read, [].
      within: number of those within each tolerance, [tolerances].
    """

    total: np.ndarray
    read: np.ndarray
    absolute: np.ndarray
    square: np.ndarray
    within: np.ndarray


@dataclasses.dataclass(frozen=True)
class Offset:
    """Metric {"n", "read", "offset", "standard_error", and the names of the tolerances} of batches of times.

    The offset is NaN where no sample is read, and its standard error where fewer than two are. `n` and `read` are
    numbers of samples, for intervals of the shares (`metrics.intervals.wilson`).

    Attributes:
      tolerances: name -> τ in seconds.
    """

    tolerances: Mapping[str, float]

    def init(self) -> OffsetSums:
        zero = np.zeros(())
        return OffsetSums(zero, zero, zero, zero, np.zeros(len(self.tolerances)))

    def update(self, state: OffsetSums, batch: Times) -> OffsetSums:
        a, b = (np.asarray(times, np.float64) for times in batch)
        if a.ndim != 1 or a.shape != b.shape:
            raise ValueError(f"expected two arrays of times [n], got shapes {a.shape} and {b.shape}")
        apart = np.abs(a - b)
        read = apart[np.isfinite(apart)]
        within = np.array([float((read <= tolerance).sum()) for tolerance in self.tolerances.values()])
        total, number = np.array(float(len(apart))), np.array(float(len(read)))
        return self.merge(state, OffsetSums(total, number, read.sum(), np.square(read).sum(), within))

    def merge(self, a: OffsetSums, b: OffsetSums) -> OffsetSums:
        return OffsetSums(*(x + y for x, y in zip(a, b, strict=True)))

    def compute(self, state: OffsetSums) -> dict[str, float]:
        if not state.total:
            raise ValueError("no samples to measure an offset of")
        read = float(state.read)
        mean = float(state.absolute) / read if read else np.nan
        return {
            "n": float(state.total),
            "read": read,
            "offset": mean,
            "standard_error": standard_error(read, mean, float(state.square)),
            **dict(zip(self.tolerances, (state.within / state.total).tolist(), strict=True)),
        }
