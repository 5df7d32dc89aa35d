"""Agreement of several readings of the same samples, and the agreement expected by chance.

A reading is an int array [n] of values of one factor, `UNREAD` where a sample shows no value of it or several. With r_m
the readings of M modalities and p_m their distributions over the K values (which sum to less than 1 if some samples are
unread),

    agreement = mean_i [ r_1(i) = … = r_M(i) ≠ UNREAD ]
    shuffled  = the agreement after r_m is rolled by m samples: same marginals, independent
    chance    = Σ_k Π_m p_m(k)                             expected of independent readings with these marginals
    entropy   = - Σ_k q(k) ln q(k) / ln K                  of one reading, q over the values read; 1 is uniform

A model that always generates one value agrees with itself, so compare an agreement with `chance` and with the entropy.
Accuracy is the agreement with the truth.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UNREAD = -1

Readings = Sequence[np.ndarray]


def agrees(readings: Readings) -> np.ndarray:
    """Whether all readings [n] of a sample are the same value, bool [n]; False where one is unread."""
    first = readings[0]
    return np.logical_and.reduce([first != UNREAD, *(r == first for r in readings[1:])])


def agreement(readings: Readings) -> float:
    """The fraction of samples in which all readings agree."""
    return float(agrees(readings).mean())


def shuffled(readings: Readings) -> float:
    """The agreement of readings of different samples."""
    return agreement([np.roll(r, shift) for shift, r in enumerate(readings)])


def distribution(reading: np.ndarray, count: int) -> np.ndarray:
    """The fraction of samples in which each value was read, [count]; sums to less than 1 if some are unread."""
    return np.bincount(reading[reading != UNREAD], minlength=count) / len(reading)


def entropy(reading: np.ndarray, count: int) -> float:
    """Entropy of the values read, divided by that of the uniform distribution; 0 if all are unread."""
    p = distribution(reading, count)
    if not p.any():
        return 0.0
    q = p[p > 0] / p.sum()
    return float(abs((q * np.log(q)).sum()) / np.log(count))


def combine(readings: Readings, counts: Sequence[int]) -> np.ndarray:
    """Joins readings [n] of several factors into one reading [n] of Π counts values; unread where one of them is."""
    read = np.logical_and.reduce([r != UNREAD for r in readings])
    index = np.ravel_multi_index([np.where(read, r, 0) for r in readings], tuple(counts))
    return np.where(read, index, UNREAD)


class AgreementCounts(NamedTuple):
    """Counts of samples, float64.

    Attributes:
      total: all samples, [].
      agreeing: those in which all readings agree, [].
      by_value: those in which each of the M readings is each of the K values, [M, K].
    """

    total: np.ndarray
    agreeing: np.ndarray
    by_value: np.ndarray


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Metric {"agreement", "chance"} of batches of M readings [n] of one factor.

    Attributes:
      readings: M.
      values: K, the number of values of the factor.
    """

    readings: int
    values: int

    def init(self) -> AgreementCounts:
        return AgreementCounts(np.zeros(()), np.zeros(()), np.zeros((self.readings, self.values)))

    def update(self, state: AgreementCounts, batch: Readings) -> AgreementCounts:
        if len(batch) != self.readings:
            raise ValueError(f"expected {self.readings} readings, got {len(batch)}")
        if (largest := max(int(r.max(initial=0)) for r in batch)) >= self.values:
            raise ValueError(f"a value of {largest} in readings of {self.values} values, 0 to {self.values - 1}")
        by_value = [np.bincount(r[r != UNREAD], minlength=self.values) for r in batch]
        agreeing = agrees(batch)
        new = AgreementCounts(
            np.array(float(len(agreeing))), np.array(float(agreeing.sum())), np.array(by_value, float)
        )
        return self.merge(state, new)

    def merge(self, a: AgreementCounts, b: AgreementCounts) -> AgreementCounts:
        return AgreementCounts(*(x + y for x, y in zip(a, b, strict=True)))

    def compute(self, state: AgreementCounts) -> dict[str, float]:
        if not state.total:
            raise ValueError("no samples to agree on")
        marginals = state.by_value / state.total
        return {"agreement": float(state.agreeing / state.total), "chance": float(np.prod(marginals, axis=0).sum())}
