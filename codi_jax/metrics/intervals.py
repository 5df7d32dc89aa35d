"""Confidence intervals of a proportion, of samples that are independent or come in clusters, and of an entropy.

The Wilson interval of a proportion p̂ = k/n is the set of p with (p̂ - p)² ≤ z² p(1-p)/n, which has the bounds

    ( p̂ + z²/2n ± z √( p̂(1-p̂)/n + z²/4n² ) ) / ( 1 + z²/n )

(Wilson 1927). Unlike p̂ ± z·s.e. it stays within [0, 1] and has a positive width at k = 0 and k = n.

Samples that share something (the handwriting of one glyph, the voice of one speaker) fail together, so n of them say
less than n independent ones. With y_i in [0, 1] the result of sample i, and C clusters c of samples, the cluster-robust
variance of p̂ = Σ y_i / n, the design effect and the effective number of samples are

    V     = C/(C-1) · Σ_c ( Σ_{i∈c} (y_i - p̂) )² / n²
    deff  = max( 1, V / ( p̂(1-p̂)/(n-1) ) )
    n_eff = n / deff · ( t_{n-1} / t_{C-1} )²

and the interval is Wilson's with n_eff in place of n. V is the linearization variance of a proportion of clusters drawn
with replacement; deff is Kish's (Survey Sampling, 1965), the variance over that of n independent samples; Rao and Scott
(Biometrics 1992) divide counts by it; and the factor of the 97.5 % quantiles t of Student's distribution, with C - 1
degrees of freedom as V has, is that of Korn and Graubard (Survey Methodology 1998), whose intervals of proportions near
0 and 1 use n_eff likewise. If every sample is its own cluster, n_eff = n.

What this cannot do: without a failure (p̂ = 0 or 1) V is 0 and there is no evidence for or against clustering; with a
single failure deff is about 1. Then deff = 1, and the interval is too narrow if failures do come in clusters: it says
n, and only the number of clusters beside it says how few independent ones there may be. Of a single cluster nothing is
known about the spread between clusters: n_eff = 1.

The plug-in entropy Ĥ of n draws of K values is biased by -(K-1)/2n (Miller 1955), and to second order

    var Ĥ = ( Σ p̂ ln² p̂ - Ĥ² )/n + (K-1)/2n²

(Harris 1975); the first term is 0 for a uniform distribution. The interval is Ĥ + (K-1)/2n ± z √(var Ĥ), clipped to
[0, ln K].
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

Z95 = 1.959963984540054  # two-sided 95 %
TAIL = 0.975  # the quantile of Student's distribution for two-sided 95 %


def wilson(proportion: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson interval of a proportion observed in n samples; n may be an effective number of samples.

    Raises:
      ValueError: n < 1, or a proportion outside [0, 1].
    """
    if n < 1 or not 0 <= proportion <= 1:
        raise ValueError(f"expected a proportion of at least one sample, got {proportion} of {n}")
    middle = proportion + z * z / (2 * n)
    half = z * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)


class ProportionInterval(NamedTuple):
    """A proportion with its 95 % interval.

    Attributes:
      proportion: the mean of the results.
      interval: lower and upper bound.
      clusters: number of clusters; that of the samples if they are independent.
      n_effective: effective number of samples, at least 1 and at most n.
    """

    proportion: float
    interval: tuple[float, float]
    clusters: int
    n_effective: float

    def entries(self) -> dict[str, Any]:
        """{"interval", "clusters", "n_effective"} of a row of metrics.json."""
        return {"interval": list(self.interval), "clusters": self.clusters, "n_effective": self.n_effective}


def _effective(results: np.ndarray, clusters: np.ndarray) -> tuple[float, int]:
    """Effective number of samples, and number of clusters, of results [n] in clusters [n]."""
    n, mean = len(results), float(results.mean())
    _, cluster = np.unique(clusters, return_inverse=True)
    count = int(cluster.max()) + 1
    if count == 1:
        return 1.0, 1
    independent = mean * (1 - mean) / (n - 1)
    totals = np.bincount(cluster, weights=results - mean)
    variance = count / (count - 1) * float(totals @ totals) / n**2
    deff = max(1.0, variance / independent) if independent else 1.0
    freedom = float(stdtrit(n - 1, TAIL) / stdtrit(count - 1, TAIL)) ** 2
    return max(n / deff * freedom, 1.0), count


def proportion_interval(results: np.ndarray, clusterings: Sequence[np.ndarray] = ()) -> ProportionInterval:
    """The mean of results and its 95 % interval, see the module's docstring.

    Args:
      results: bool, or numbers in [0, 1], [n].
      clusterings: arrays [n], each with equal numbers where samples belong to one cluster. Of several the one with the
        fewest effective samples counts; without any the samples are independent.

    Raises:
      ValueError: no results, or clusters of another number of samples.
    """
    values = np.asarray(results, np.float64)
    n = len(values)
    if not n or any(np.shape(clusters) != (n,) for clusters in clusterings):
        raise ValueError(f"expected clusters of {n} results, at least one, got {[np.shape(c) for c in clusterings]}")
    proportion = min(max(float(values.mean()), 0.0), 1.0)
    n_effective, clusters = min((_effective(values, c) for c in clusterings), default=(float(n), n))
    return ProportionInterval(proportion, wilson(proportion, n_effective), clusters, n_effective)


def entropy_interval(counts: np.ndarray, z: float = Z95) -> tuple[float, float]:
    """Interval of the entropy of a distribution over K values, divided by ln K, from the counts of n draws [K].

    Raises:
      ValueError: K < 2, or no draws.
    """
    counts = np.asarray(counts)
    size, n = len(counts), int(counts.sum())
    if size < 2 or n < 1:
        raise ValueError(f"expected counts [K] with K >= 2 and at least one draw, got {counts.tolist()}")
    p = counts[counts > 0] / n
    entropy = float(-(p * np.log(p)).sum())
    middle = entropy + (size - 1) / (2 * n)
    half = z * math.sqrt(max(float((p * np.log(p) ** 2).sum()) - entropy**2, 0) / n + (size - 1) / (2 * n * n))
    low, high = (min(max(end / math.log(size), 0.0), 1.0) for end in (middle - half, middle + half))
    return low, high


def standard_error(n: float, mean: float, square: float) -> float:
    """The standard error of the mean of n numbers, from their mean and the sum of their squares; NaN if n < 2."""
    return math.sqrt(max(square - n * mean**2, 0.0) / (n - 1) / n) if n > 1 else math.nan
