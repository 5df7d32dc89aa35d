"""Precision and recall of generated samples (Kynkäänniemi et al., arXiv 1904.06991): shares inside a manifold.

The manifold of a set Y of features is the union of balls around its samples, each up to the k-th nearest other sample,

    r_k(y) = distance of y to its k-th nearest neighbour in Y, y itself excluded            Euclidean
    inside(x, Y) = [ some y in Y has ‖x - y‖ ≤ r_k(y) ]
    precision = mean over generated x of inside(x, real)      recall = mean over real y of inside(y, generated)

so precision is the share of generated samples that might be real, and recall the share of real samples that the model
might generate. Both are in [0, 1]. They depend on n and m, as a manifold of more samples covers more densely: compare
equal numbers (50,000 of both in the paper), and equal k (3 there). The paper's features are those of VGG-16's second
dense layer; with Inception's pool features, as others use, the numbers are different ones.

Distances are computed in float64 in blocks, by ‖x - y‖² = ‖x‖² - 2 xᵀy + ‖y‖² about the mean of the manifold's samples;
memory is that of a few blocks beside the features, the time O((n + m)² F).

    compute(PrecisionRecall(real_features), batches_of_features)       # {"precision", "recall", "n", "n_reference"}
    precision_recall_interval(features, real_features)["recall"]

In a resample samples occur twice, at distance 0, and shrink the balls. The interval therefore keeps the two manifolds
and resamples the samples that are tested: it is one of the mean of `inside`, for manifolds of these samples.
"""

import dataclasses

import numpy as np

from codi_jax.metrics.bootstrap import BootstrapInterval, bootstrap, to_draw_from
from codi_jax.metrics.rows import LIMIT, Rows, append, blocks, check_features, empty

BLOCK = 2048  # rows and columns of a block of distances


def _distances(x: np.ndarray, y: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """‖x_i - y_j‖², float64 [n, m]."""
    x, y = x.astype(np.float64) - mean, y.astype(np.float64) - mean
    return np.maximum((x * x).sum(1)[:, None] - 2 * (x @ y.T) + (y * y).sum(1), 0)


def _mean(x: np.ndarray) -> np.ndarray:
    return np.asarray(x.mean(0, dtype=np.float64))


def radii(samples: np.ndarray, k: int = 3, block: int = BLOCK) -> np.ndarray:
    """r_k² of every sample, float64 [n].

    Args:
      samples: features [n, F] with n > k.
      k: number of the neighbour.
      block: side of the blocks of distances.

    Raises:
      ValueError: another shape, k < 1, or too few samples.
    """
    if k < 1:
        raise ValueError(f"expected k >= 1, got {k}")
    x = check_features(samples, least=k + 1)
    mean, out = _mean(x), np.empty(len(x))
    for rows in blocks(len(x), block):
        nearest = np.full((rows.stop - rows.start, k), np.inf)
        for columns in blocks(len(x), block):
            found = _distances(x[rows], x[columns], mean)
            if columns == rows:
                np.fill_diagonal(found, np.inf)
            nearest = np.partition(np.concatenate([nearest, found], 1), k - 1, 1)[:, :k]
        out[rows] = nearest[:, k - 1]
    return out


def inside(samples: np.ndarray, manifold: np.ndarray, squared_radii: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Whether samples are in a manifold, bool [n].

    Args:
      samples: features [n, F].
      manifold: features [m, F].
      squared_radii: r_k² of the manifold's samples [m], from `radii`.
      block: side of the blocks of distances.

    Raises:
      ValueError: other shapes.
    """
    x = check_features(samples, least=1)
    y = check_features(manifold, name="features of the manifold", least=1, size=x.shape[1])
    if np.shape(squared_radii) != (len(y),):
        raise ValueError(f"expected the radii of {len(y)} samples, got shape {np.shape(squared_radii)}")
    mean, out = _mean(y), np.zeros(len(x), bool)
    for rows in blocks(len(x), block):
        for columns in blocks(len(y), block):
            out[rows] |= (_distances(x[rows], y[columns], mean) <= squared_radii[columns]).any(1)
    return out


def _hits(generated: np.ndarray, real: np.ndarray, k: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each generated sample is in the manifold of the real ones, bool [n], and vice versa, bool [m]."""
    x = check_features(generated, name="generated features", least=k + 1)
    y = check_features(real, name="real features", least=k + 1, size=x.shape[1])
    return inside(x, y, radii(y, k, block), block), inside(y, x, radii(x, k, block), block)


def precision_recall(generated: np.ndarray, real: np.ndarray, k: int = 3, block: int = BLOCK) -> dict[str, float]:
    """Precision and recall.

    Args:
      generated: features [n, F]; may be a memory map, of which `block` rows are read at a time.
      real: features [m, F], likewise.
      k: number of the neighbour that a ball reaches to.
      block: side of the blocks of distances.

    Returns:
      {"precision", "recall", "n", "n_reference"}.

    Raises:
      ValueError: other shapes, k < 1, or at most k samples of either.
    """
    precise, recalled = _hits(generated, real, k, block)
    return {
        "precision": float(precise.mean()),
        "recall": float(recalled.mean()),
        "n": float(len(precise)),
        "n_reference": float(len(recalled)),
    }


def precision_recall_interval(
    generated: np.ndarray,
    real: np.ndarray,
    k: int = 3,
    *,
    clusters: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    block: int = BLOCK,
) -> dict[str, BootstrapInterval]:
    """{"precision", "recall"} with bootstrap intervals for the given manifolds, see the module's docstring.

    Args:
      generated: features [n, F].
      real: features [m, F].
      k: number of the neighbour that a ball reaches to.
      clusters: of the generated and of the real samples, int [n] and [m]; independent if None.
      resamples: R.
      level: probability of the interval.
      seed: of the draws.
      block: side of the blocks of distances.

    Raises:
      ValueError: see `precision_recall`.
    """
    hits = _hits(generated, real, k, block)
    sets = [to_draw_from(h, c) for h, c in zip(hits, clusters, strict=True)]

    def statistic(rows: np.ndarray, others: np.ndarray) -> dict[str, float]:
        return {"precision": float(hits[0][rows].mean()), "recall": float(hits[1][others].mean())}

    return bootstrap(statistic, *sets, resamples=resamples, level=level, seed=seed)


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
    """Metric {"precision", "recall", "n", "n_reference"} of batches of features [n, F].

    The state holds the samples, up to `limit` (`metrics.rows`).

    Attributes:
      reference: features of real samples [m, F]; may be a memory map.
      k: number of the neighbour that a ball reaches to.
      limit: the most samples that are kept.
    """

    reference: np.ndarray
    k: int = 3
    limit: int = LIMIT

    def __post_init__(self):
        check_features(self.reference, name="real features", least=self.k + 1)

    def init(self) -> Rows:
        return empty(self.limit, self.reference.shape[1])

    def update(self, state: Rows, batch: np.ndarray) -> Rows:
        return append(state, batch)

    def merge(self, a: Rows, b: Rows) -> Rows:
        return append(a, b.kept)

    def compute(self, state: Rows) -> dict[str, float]:
        return precision_recall(state.kept, self.reference, self.k)
