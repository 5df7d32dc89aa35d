"""Memorisation: whether generated samples are nearer to training samples than unseen real samples are.

With T the training samples, G the generated ones and R as many real ones that were not trained on,

    d(x)   = min_{y in T} ‖x - y‖                                         float32, in chunks of T
    ratio  = median_G d / median_R d
    near_p = share of G with d below the p-th percentile of { d(x) : x in R }

A model that has learnt the distribution has a ratio of 1 and near_p = p %; one that copies has distances of 0. The
distance is that of the space the samples are given in; blurred samples are near to everything there, so a ratio a
little below 1 is not memorisation. Percentiles need more than 100 / p real samples.

    ‖x - y‖² = ‖x‖² - 2 x·y + ‖y‖²

finds the nearest sample of a chunk by one matrix product, with the mean of the queries subtracted first, since the sum
cancels; the distance to it is then computed from the difference, so that a copy has distance 0.
"""

import dataclasses

import numpy as np

PERCENTILES = (1, 5)


@dataclasses.dataclass(frozen=True)
class NearestDistance:
    """Metric {"median", "smallest"} of batches of training samples [m, F]: distances of the queries to their nearest.

    The state is d of every query, float32 [n], whose size does not depend on the number of training samples; it is
    infinite before the first of them.

    Attributes:
      queries: float32 [n, F].
    """

    queries: np.ndarray

    def __post_init__(self):
        if self.queries.ndim != 2 or not len(self.queries):
            raise ValueError(f"expected queries [n, F] with n >= 1, got shape {self.queries.shape}")

    def init(self) -> np.ndarray:
        return np.full(len(self.queries), np.inf, np.float32)

    def update(self, state: np.ndarray, batch: np.ndarray) -> np.ndarray:
        if batch.ndim != 2 or batch.shape[1] != self.queries.shape[1] or not len(batch):
            raise ValueError(f"expected samples [m, {self.queries.shape[1]}] with m >= 1, got shape {batch.shape}")
        mean = self.queries.mean(0, dtype=np.float32)
        x, y = self.queries - mean, np.asarray(batch, np.float32) - mean
        nearest = ((y**2).sum(1) - 2 * (x @ y.T)).argmin(1)
        found = np.array([np.linalg.norm(a - batch[k]) for a, k in zip(self.queries, nearest, strict=True)])
        return self.merge(state, found.astype(np.float32))

    def merge(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.minimum(a, b)

    def compute(self, state: np.ndarray) -> dict[str, float]:
        if not np.isfinite(state).all():
            raise ValueError("no training samples to compare with")
        return {"median": float(np.median(state)), "smallest": float(state.min())}


def memorisation(generated: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Compares distances of generated samples [n] to the nearest training sample with those of real samples [m].

    Returns:
      {"median", "real_median", "ratio", "near_1", "near_5"}; the ratio is NaN if the real median is 0.

    Raises:
      ValueError: no samples.
    """
    if not len(generated) or not len(real):
        raise ValueError(f"expected distances of samples, got {len(generated)} generated and {len(real)} real ones")
    median, real_median = float(np.median(generated)), float(np.median(real))
    near = {f"near_{p}": float((generated < np.percentile(real, p)).mean()) for p in PERCENTILES}
    ratio = median / real_median if real_median else float("nan")
    return {"median": median, "real_median": real_median, "ratio": ratio, **near}


def verbatim_share(captions: list[str], training: set[str] | frozenset[str]) -> float:
    """The share of captions that occur verbatim in training.

    Raises:
      ValueError: no captions.
    """
    if not captions:
        raise ValueError("no captions to look up")
    return sum(caption in training for caption in captions) / len(captions)
