"""Do several readings of the same samples agree, and would they by chance?

A reading is an int array [n] of values of one factor, `UNREAD` where the medium says nothing, or contradicts itself.
With r_m the readings of M media and p_m their distributions over the K values (what is unread has its share, too),

    agreement = mean_i [ r_1(i) = … = r_M(i) ≠ UNREAD ]
    shuffled  = the agreement after r_m is moved by m samples: same marginals, no relation
    chance    = Σ_k Π_m p_m(k)                             what independent media of these marginals reach
    entropy   = - Σ_k q(k) ln q(k) / ln K                  of one medium, q over what was read; 1 is uniform

A model that always shows the same agrees with itself: an agreement is worth its distance from `chance`, and no more
than its entropy. Accuracy is the agreement with the truth.
"""

from collections.abc import Sequence

import numpy as np

UNREAD = -1

Readings = Sequence[np.ndarray]


def agrees(readings: Readings) -> np.ndarray:
    """Whether all readings [n] of a sample are one and the same value: bool [n]."""
    first = readings[0]
    return np.logical_and.reduce([first != UNREAD, *(r == first for r in readings[1:])])


def agreement(readings: Readings) -> float:
    """The part of samples in which all readings agree."""
    return float(agrees(readings).mean())


def shuffled(readings: Readings) -> float:
    """The agreement of readings of different samples."""
    return agreement([np.roll(r, shift) for shift, r in enumerate(readings)])


def distribution(reading: np.ndarray, count: int) -> np.ndarray:
    """The part of samples [count] in which each value was read; sums to less than 1 if some are unread."""
    return np.bincount(reading[reading != UNREAD], minlength=count) / len(reading)


def chance(readings: Readings, count: int) -> float:
    """The expected agreement of independent media with these marginals over `count` values."""
    return float(np.prod([distribution(r, count) for r in readings], axis=0).sum())


def entropy(reading: np.ndarray, count: int) -> float:
    """Entropy of what was read as a part of that of the uniform distribution; 0 if nothing was."""
    p = distribution(reading, count)
    if not p.any():
        return 0.0
    q = p[p > 0] / p.sum()
    return float(abs((q * np.log(q)).sum()) / np.log(count))


def combine(readings: Readings, counts: Sequence[int]) -> np.ndarray:
    """Readings of several factors [n] of one medium as one, of Π counts values; unread where one of them is."""
    read = np.logical_and.reduce([r != UNREAD for r in readings])
    index = np.ravel_multi_index([np.where(read, r, 0) for r in readings], tuple(counts))
    return np.where(read, index, UNREAD)
