"""Percentile bootstrap intervals of any statistic of independent samples, or of samples in clusters.

    θ̂   = s(x_1, …, x_n)
    θ*_r = s(x_{i_1}, …, x_{i_n})                     i drawn uniformly with replacement, r = 1 … R
    interval = [ q_{α/2}(θ*) - c, q_{1-α/2}(θ*) - c ]      α = 1 - level; c = 0, or with `centre` b = mean_r θ*_r - θ̂

(Efron 1979.) Samples that share something (a speaker, a glyph) fail together; given their clusters, whole clusters are
drawn, as many as there are, with all samples of each, so that n varies a little. Samples of several sets (generated and
real ones) are drawn independently. If a set has a single sample or cluster, all of its resamples are the same, and say
nothing about the spread: the interval is not defined, and its bounds are NaN. So they are if s is NaN in a resample.

b estimates the bias of s at this n. A statistic such as FID, whose bias falls with n, has it once more in a resample,
so that the plain interval may lie beside θ̂. With `centre` the interval is one of E[s] at this n: right to compare two
models with equal n, but it does not remove the bias of θ̂ itself.

Memory is that of the statistic, and R numbers. Draw r depends on the seed and r alone, not on R.

    bootstrap(lambda rows: {"mean": scores[rows].mean()}, len(scores))["mean"]             # value, low, high, …
    bootstrap(lambda rows: {"mean": scores[rows].mean()}, speakers)["mean"]                # speakers: int [n]
    bootstrap(lambda a, b: {"gap": x[a].mean() - y[b].mean()}, len(x), len(y))["gap"]
    bootstrap_metric(FrechetDistance(reference), features)["frechet_distance"]             # any metric of rows
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any, NamedTuple

import numpy as np

from codi_jax.metrics.base import Metric, compute

Samples = int | np.ndarray  # n independent samples, or the cluster of each sample, int [n]


class BootstrapInterval(NamedTuple):
    """A number with its interval.

    Attributes:
      value: θ̂.
      low: lower bound. This and all below are NaN if they are not defined, see the module's docstring.
      high: upper bound.
      standard_error: standard deviation of θ*.
      bias: b, mean θ* - θ̂, whether or not it was subtracted.
    """

    value: float
    low: float
    high: float
    standard_error: float
    bias: float

    def entries(self) -> dict[str, Any]:
        """{"interval", "standard_error"} of a row of metrics.json, as those of `intervals.ProportionInterval`."""
        return {"interval": [self.low, self.high], "standard_error": self.standard_error}


def to_draw_from(rows: Sized, clusters: np.ndarray | None) -> Samples:
    """What is drawn of n rows: n independent samples, or their clusters.

    Args:
      rows: the samples, [n, …].
      clusters: the cluster of each, int [n]; independent if None.

    Raises:
      ValueError: clusters of another number of samples.
    """
    if clusters is not None and np.shape(clusters) != (len(rows),):
        raise ValueError(f"expected clusters of {len(rows)} samples, got shape {np.shape(clusters)}")
    return len(rows) if clusters is None else clusters


def _number(samples: Samples) -> int:
    """n."""
    return int(samples) if isinstance(samples, int | np.integer) else len(samples)


def _members(samples: Samples) -> list[np.ndarray] | int:
    """n, or the samples of each cluster."""
    if isinstance(samples, int | np.integer):
        if samples < 1:
            raise ValueError(f"expected at least one sample to draw from, got {samples}")
        return int(samples)
    clusters = np.asarray(samples)
    if clusters.ndim != 1 or not len(clusters):
        raise ValueError(f"expected the clusters of at least one sample, [n], got shape {clusters.shape}")
    _, cluster = np.unique(clusters, return_inverse=True)
    return np.split(np.argsort(cluster, kind="stable"), np.cumsum(np.bincount(cluster))[:-1])


def _is_single(samples: Samples) -> bool:
    """Whether there is only one sample, or only one cluster."""
    members = _members(samples)
    return (members if isinstance(members, int) else len(members)) == 1


def _check(resamples: int, level: float) -> None:
    if resamples < 2 or not 0 < level < 1:
        raise ValueError(f"expected at least 2 resamples and a level in (0, 1), got {resamples} and {level}")


def resamples_of(*samples: Samples, resamples: int = 1000, seed: int = 0) -> Iterator[tuple[np.ndarray, ...]]:
    """The rows of every resample: int [n] for each set of samples, in ascending order, so that files are read forward.

    Args:
      *samples: for each set n, or the cluster of each of its samples, int [n].
      resamples: R.
      seed: of the draws.

    Raises:
      ValueError: a set without samples.
    """
    members = [_members(s) for s in samples]

    def draw(rng: np.random.Generator, of: list[np.ndarray] | int) -> np.ndarray:
        if isinstance(of, int):
            return np.sort(rng.integers(0, of, of))
        return np.sort(np.concatenate([of[c] for c in rng.integers(0, len(of), len(of))]))

    for r in range(resamples):
        rng = np.random.default_rng([seed, r])
        yield tuple(draw(rng, of) for of in members)


def resample_counts(*samples: Samples, resamples: int = 1000, seed: int = 0) -> list[np.ndarray]:
    """How often each sample is in each resample: uint16 [R, n] for each set of samples, the draws of `resamples_of`.

    For statistics of weighted sums, which then are matrix products over all resamples at once.

    Raises:
      ValueError: a set without samples.
    """
    sizes = [_number(s) for s in samples]
    out = [np.zeros((resamples, n), np.uint16) for n in sizes]
    for r, drawn in enumerate(resamples_of(*samples, resamples=resamples, seed=seed)):
        for counts, rows in zip(out, drawn, strict=True):
            counts[r] = np.bincount(rows, minlength=counts.shape[1])
    return out


def interval(
    value: float, resampled: np.ndarray, *samples: Samples, level: float = 0.95, centre: bool = False
) -> BootstrapInterval:
    """The interval of a number from its values in all resamples.

    Args:
      value: θ̂.
      resampled: θ*, [R].
      *samples: what each set was drawn from, see `resamples_of`.
      level: probability of the interval.
      centre: subtract the bias b from both bounds.

    Raises:
      ValueError: fewer than two resamples, or a level outside (0, 1).
    """
    values = np.asarray(resampled, np.float64)
    _check(len(values), level)
    if any(map(_is_single, samples)) or not np.isfinite(values).all():
        return BootstrapInterval(float(value), *[math.nan] * 4)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    bias = float(values.mean() - value)
    shift = bias if centre else 0.0
    return BootstrapInterval(float(value), float(low - shift), float(high - shift), float(values.std(ddof=1)), bias)


def bootstrap(
    statistic: Callable[..., Mapping[str, float]],
    *samples: Samples,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    centre: bool = False,
) -> dict[str, BootstrapInterval]:
    """Intervals of all numbers that a statistic returns.

    Args:
      statistic: rows of each set of samples, int [n] with repetitions -> numbers by name.
      *samples: for each set n, or the cluster of each of its samples, int [n].
      resamples: R; 1000 for quantiles of 95 %, fewer where the statistic is costly.
      level: probability of the interval.
      seed: of the draws.
      centre: subtract the bias b from both bounds, see the module's docstring.

    Returns:
      Name -> interval.

    Raises:
      ValueError: a set without samples, fewer than two resamples, or a level outside (0, 1).
    """
    _check(resamples, level)
    values = statistic(*(np.arange(_number(s)) for s in samples))
    found = [statistic(*rows) for rows in resamples_of(*samples, resamples=resamples, seed=seed)]
    return {
        name: interval(x, np.array([f[name] for f in found]), *samples, level=level, centre=centre)
        for name, x in values.items()
    }


def bootstrap_metric(
    metric: Metric[Any, np.ndarray],
    samples: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    block: int = 1024,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    centre: bool = False,
) -> dict[str, BootstrapInterval]:
    """Intervals of the numbers of a metric whose batches are rows of one array.

    Args:
      metric: of batches [b, …].
      samples: [n, …]; may be a memory map (`np.load(path, mmap_mode="r")`), of which `block` rows are read at a time.
      clusters: the cluster of each sample, int [n]; independent if None.
      block: b, rows of a batch.
      resamples: R.
      level: probability of the interval.
      seed: of the draws.
      centre: subtract the bias b from both bounds, see the module's docstring.

    Returns:
      Name -> interval.

    Raises:
      ValueError: see `bootstrap`, or what the metric raises.
    """

    def statistic(rows: np.ndarray) -> Mapping[str, float]:
        return compute(metric, (samples[rows[at : at + block]] for at in range(0, len(rows), block)))

    drawn = to_draw_from(samples, clusters)
    return bootstrap(statistic, drawn, resamples=resamples, level=level, seed=seed, centre=centre)
