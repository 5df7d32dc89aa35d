"""FID∞ (Chong and Forsyth, arXiv 1911.07023): the FID of infinitely many samples, extrapolated.

The FID of n samples is biased by a term that depends on the model, E[FID_n] = FID∞ + c/n + O(1/n²), so that ranks of
models at a finite n may be those of their c. FID_n of random subsets of several sizes is linear in 1/n:

    n_k = k-th of `points` sizes, evenly from `smallest` to n      FID_{n_k} of the first n_k of a random permutation
    (FID∞, c) = least squares of FID_{n_k} on (1, 1/n_k)

The units are those of FID. The number of reference samples biases it likewise and is not corrected. The line holds for
n well above F; the paper uses 15 sizes from 5,000 to 50,000 of F = 2048. The paper's quasi-random latents are a matter
of the sampler, not of the metric.

    compute(FIDInfinity(fit(real)), batches_of_features)                    # {"fid_infinity", "fid", "slope", "n"}
    bootstrap_metric(FIDInfinity(fit(real)), features, resamples=100, centre=True)["fid_infinity"]
"""

import dataclasses
from functools import cached_property

import numpy as np

from codi_jax.metrics.base import compute
from codi_jax.metrics.frechet import FrechetDistance, Gaussian
from codi_jax.metrics.rows import LIMIT, Rows, append, blocks, empty

_BLOCK = 1024  # samples whose moments are computed at a time


@dataclasses.dataclass(frozen=True)
class FIDInfinity:
    """Metric {"fid_infinity", "fid", "slope", "n"} of batches of features [n, F].

    `fid` is that of all n samples and `slope` is c. The state holds the samples, up to `limit` (`metrics.rows`).

    Attributes:
      reference: Gaussian fit of the features of real samples.
      points: number of sizes, at least 2.
      smallest: of the sizes, at least 2; n must be larger.
      limit: the most samples that are kept.
      seed: of the permutations.

    Raises:
      ValueError: fewer than 2 points, or smallest < 2.
    """

    reference: Gaussian
    points: int = 15
    smallest: int = 5000
    limit: int = LIMIT
    seed: int = 0

    def __post_init__(self):
        if self.points < 2 or self.smallest < 2:
            raise ValueError(f"expected points >= 2 and smallest >= 2, got {self.points} and {self.smallest}")

    @cached_property
    def _fid(self) -> FrechetDistance:
        return FrechetDistance(self.reference, "fid")

    def init(self) -> Rows:
        return empty(self.limit, len(self.reference.mean))

    def update(self, state: Rows, batch: np.ndarray) -> Rows:
        return append(state, batch)

    def merge(self, a: Rows, b: Rows) -> Rows:
        return append(a, b.kept)

    def compute(self, state: Rows) -> dict[str, float]:
        features = state.kept
        n = len(features)
        if n <= self.smallest:
            raise ValueError(f"FID∞ needs more than smallest = {self.smallest} samples, got {n}")
        sizes = np.unique(np.linspace(self.smallest, n, self.points).astype(np.int64))
        found = []
        for k, size in enumerate(sizes):
            rows = np.sort(np.random.default_rng([self.seed, k]).permutation(n)[:size])
            batches = [rows[part] for part in blocks(len(rows), _BLOCK)]
            found.append(compute(self._fid, (features[batch] for batch in batches))["fid"])
        design = np.stack([np.ones(len(sizes)), 1 / sizes], 1)
        (limit, slope), *_ = np.linalg.lstsq(design, np.array(found), rcond=None)
        return {"fid_infinity": float(limit), "fid": found[-1], "slope": float(slope), "n": float(n)}
