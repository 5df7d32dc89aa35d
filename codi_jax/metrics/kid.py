"""KID (Binkowski et al., arXiv 1801.01401): squared maximum mean discrepancy of features, without bias.

With k(x, y) = (xᵀy / F + 1)³ on features of F numbers, generated x_1 … x_n and real y_1 … y_m,

    MMD² = 1/(n(n-1)) Σ_{i≠j} k(x_i, x_j) + 1/(m(m-1)) Σ_{i≠j} k(y_i, y_j) - 2/(nm) Σ_{ij} k(x_i, y_j)

KID is the mean of MMD² over random subsets of 1000 of both (`kid`), or MMD² of all samples (`mmd2`), which is its limit
for many subsets and has less variance. Both are without bias at any n, and may be negative; few samples suffice. The
units are those of the kernel, k = 1 at orthogonal features; papers often print 1000 · KID. The features are the
pool features [n, 2048] of `encoders.inception`; those of another network give another number.

The kernel is computed in float64 in blocks, so that memory is that of a few blocks beside the features.

    compute(KernelDistance(real_features), batches_of_features)             # {"kid", "kid_std", "n", "n_reference"}
    kid_interval(features, real_features)                                   # bootstrap of `mmd2`

In a resample a sample may occur twice, and k(x, x) is no distance of two samples. With counts w and v of the samples,

    MMD²* = Σ_{i≠j} w_i w_j k(x_i, x_j) / Σ_{i≠j} w_i w_j + (the same of y and v) - 2 Σ_{ij} w_i v_j k(x_i, y_j) / (nm)

A resample of very few samples may hold a single one n times; then MMD²* is not defined, and neither is the interval.

If both sets have one distribution, MMD² is degenerate and the bootstrap is not consistent (Arcones and Giné 1992): read
an interval around 0 as "no difference seen", not as a test.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from codi_jax.metrics.bootstrap import BootstrapInterval, interval, resample_counts, to_draw_from
from codi_jax.metrics.rows import LIMIT, Rows, append, blocks, check_features, empty

BLOCK = 2048  # rows and columns of a block of the kernel


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """k(x_i, y_j), float64 [n, m], of features [n, F] and [m, F]."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return (x @ y.T / x.shape[1] + 1) ** 3


def _within(x: np.ndarray, counts: np.ndarray, block: int) -> np.ndarray:
    """Σ_{i≠j} w_i w_j k(x_i, x_j), [R], of counts w [R, n]."""
    total = np.zeros(len(counts))
    parts = blocks(len(x), block)
    for a, rows in enumerate(parts):
        left = counts[:, rows].astype(np.float64)
        for columns in parts[a:]:
            values = kernel(x[rows], x[columns])
            if columns == rows:
                np.fill_diagonal(values, 0)
            sums = ((left @ values) * counts[:, columns]).sum(1)
            total += sums if columns == rows else 2 * sums
    return total


def _between(x: np.ndarray, y: np.ndarray, w: np.ndarray, v: np.ndarray, block: int) -> np.ndarray:
    """Σ_{ij} w_i v_j k(x_i, y_j), [R], of counts w [R, n] and v [R, m]."""
    total = np.zeros(len(w))
    for rows in blocks(len(x), block):
        left = w[:, rows].astype(np.float64)
        for columns in blocks(len(y), block):
            total += ((left @ kernel(x[rows], y[columns])) * v[:, columns]).sum(1)
    return total


def _weighted(x: np.ndarray, y: np.ndarray, w: np.ndarray, v: np.ndarray, block: int) -> np.ndarray:
    """MMD²*, [R], of counts w [R, n] and v [R, m]; NaN in a resample with one sample only, which has no pairs."""
    parts = []
    for samples, counts in ((x, w), (y, v)):
        c = counts.astype(np.float64)
        pairs = c.sum(1) ** 2 - (c * c).sum(1)
        parts.append(_within(samples, counts, block) / np.where(pairs, pairs, np.nan))
    products = w.sum(1, dtype=np.float64) * v.sum(1, dtype=np.float64)
    return parts[0] + parts[1] - 2 * _between(x, y, w, v, block) / products


def _both(generated: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    generated = check_features(generated, name="generated features", least=2)
    return generated, check_features(real, name="real features", least=2, size=generated.shape[1])


def mmd2(generated: np.ndarray, real: np.ndarray, block: int = BLOCK) -> float:
    """MMD² of all samples.

    Args:
      generated: features [n, F]; may be a memory map, of which `block` rows are read at a time.
      real: features [m, F], likewise.
      block: side of the blocks of the kernel.

    Raises:
      ValueError: other shapes, or fewer than two samples of either.
    """
    x, y = _both(generated, real)
    ones = np.ones((1, len(x)), np.uint16), np.ones((1, len(y)), np.uint16)
    return float(_weighted(x, y, *ones, block)[0])


def mmd2_of_subsets(
    generated: np.ndarray, real: np.ndarray, subsets: Iterable[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """MMD² of each pair of subsets.

    Args:
      generated: features [n, F].
      real: features [m, F].
      subsets: rows of `generated` and of `real`, int arrays of at least two.

    Returns:
      float64 [number of subsets].

    Raises:
      ValueError: other shapes, or fewer than two samples of either.
    """
    return np.array([mmd2(generated[np.sort(rows)], real[np.sort(others)]) for rows, others in subsets])


def draw_subsets(n: int, m: int, subsets: int, size: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of random subsets of n and of m samples, without repetitions within a subset.

    Raises:
      ValueError: no subset, subsets of fewer than two samples, or of more than there are.
    """
    if subsets < 1 or size < 2:
        raise ValueError(f"expected at least one subset of at least two samples, got {subsets} of {size}")
    if min(n, m) < size:
        raise ValueError(f"subsets of {size} samples need as many, got {n} generated and {m} real ones")
    for k in range(subsets):
        rng = np.random.default_rng([seed, k])
        yield rng.choice(n, size, replace=False), rng.choice(m, size, replace=False)


def kid(
    generated: np.ndarray, real: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0
) -> dict[str, float]:
    """KID of random subsets.

    Args:
      generated: features [n, F].
      real: features [m, F].
      subsets: their number; 0 is MMD² of all samples, without subsets.
      size: samples of a subset, of either set.
      seed: of the draws.

    Returns:
      {"kid", "kid_std", "n", "n_reference"}: mean and standard deviation over subsets (0 without), which is not the
      standard error of their mean: see `kid_interval`.

    Raises:
      ValueError: other shapes, or fewer samples than a subset has.
    """
    x, y = _both(generated, real)
    drawn = draw_subsets(len(x), len(y), subsets, size, seed) if subsets else iter(())
    values = mmd2_of_subsets(x, y, drawn) if subsets else np.array([mmd2(x, y)])
    return {
        "kid": float(values.mean()),
        "kid_std": float(values.std()),
        "n": float(len(x)),
        "n_reference": float(len(y)),
    }


def kid_interval(
    generated: np.ndarray,
    real: np.ndarray,
    *,
    clusters: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    block: int = BLOCK,
) -> BootstrapInterval:
    """MMD² of all samples with its bootstrap interval; both sets are resampled.

    The kernel is computed once for all resamples. Memory: 2 R (n + m) bytes, R · block and block² numbers.

    Args:
      generated: features [n, F].
      real: features [m, F].
      clusters: of the generated and of the real samples, int [n] and [m]; independent if None.
      resamples: R.
      level: probability of the interval.
      seed: of the draws.
      block: side of the blocks of the kernel.

    Raises:
      ValueError: other shapes, or fewer than two samples of either.
    """
    x, y = _both(generated, real)
    sets = [to_draw_from(s, c) for s, c in zip((x, y), clusters, strict=True)]
    w, v = resample_counts(*sets, resamples=resamples, seed=seed)
    return interval(mmd2(x, y, block), _weighted(x, y, w, v, block), *sets, level=level)


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """Metric {"kid", "kid_std", "n", "n_reference"} of batches of features [n, F]; see `kid`.

    The state holds the samples, up to `limit` (`metrics.rows`).

    Attributes:
      reference: features of real samples [m, F]; may be a memory map.
      subsets: their number; 0 is MMD² of all samples.
      size: samples of a subset.
      limit: the most samples that are kept.
      seed: of the draws.
    """

    reference: np.ndarray
    subsets: int = 100
    size: int = 1000
    limit: int = LIMIT
    seed: int = 0

    def __post_init__(self):
        check_features(self.reference, name="real features", least=2)

    def init(self) -> Rows:
        return empty(self.limit, self.reference.shape[1])

    def update(self, state: Rows, batch: np.ndarray) -> Rows:
        return append(state, batch)

    def merge(self, a: Rows, b: Rows) -> Rows:
        return append(a, b.kept)

    def compute(self, state: Rows) -> dict[str, float]:
        return kid(state.kept, self.reference, self.subsets, self.size, self.seed)
