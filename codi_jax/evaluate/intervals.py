"""How far to trust a proportion, and an entropy.

A proportion has the Wilson interval.

For k of n the p with (p̂ - p)² ≤ z² p(1-p)/n,  p̂ = k/n,  are those between

    ( p̂ + z²/2n ± z √( p̂(1-p̂)/n + z²/4n² ) ) / ( 1 + z²/n )

(Wilson 1927). Unlike p̂ ± z·s.e. it stays within [0, 1] and has a width at 0 of n and at n of n.

The entropy Ĥ of n draws of one of K values is too low by (K-1)/2n on average (Miller 1955), and to the second order

    var Ĥ = ( Σ p̂ ln² p̂ - Ĥ² )/n + (K-1)/2n²

(Harris 1975); the first term is 0 for a uniform distribution. The interval is Ĥ + (K-1)/2n ± z √(var Ĥ), within
[0, ln K].
"""

import math

import numpy as np

Z95 = 1.959963984540054  # two-sided 95 %


def wilson(proportion: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Bounds of a proportion that was seen in n samples."""
    if n < 1 or not 0 <= proportion <= 1:
        raise ValueError(f"expected a proportion of at least one sample, got {proportion} of {n}")
    middle = proportion + z * z / (2 * n)
    half = z * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)


def entropy_interval(counts: np.ndarray, z: float = Z95) -> tuple[float, float]:
    """Bounds of the entropy of a distribution over K values, as parts of ln K, from how often each was drawn [K]."""
    counts = np.asarray(counts)
    size, n = len(counts), int(counts.sum())
    if size < 2 or n < 1:
        raise ValueError(f"expected a draw of at least two possible values, got counts {counts.tolist()}")
    p = counts[counts > 0] / n
    entropy = float(-(p * np.log(p)).sum())
    middle = entropy + (size - 1) / (2 * n)
    half = z * math.sqrt(max(float((p * np.log(p) ** 2).sum()) - entropy**2, 0) / n + (size - 1) / (2 * n * n))
    low, high = (min(max(end / math.log(size), 0.0), 1.0) for end in (middle - half, middle + half))
    return low, high
