"""Fréchet distance between Gaussian fits of two sets of features.

    d² = ‖μ_1 - μ_2‖² + tr( Σ_1 + Σ_2 - 2 (Σ_1^½ Σ_2 Σ_1^½)^½ )

(Dowson and Landau 1982). The reported number is d², as usual. The square roots are of symmetric matrices and computed
with eigh, which stays real if few samples leave a covariance singular. The number is only comparable between features
of the same network; for those that `metrics.fid` names it is FID or FVD. It is biased upwards for few samples: compare
equal numbers of samples.

Counts n, means and scatter matrices S = Σ_i (x_i - μ)(x_i - μ)ᵀ of two sets of samples merge exactly (Chan, Golub and
LeVeque 1979), with δ = μ_b - μ_a:

    μ = μ_a + δ n_b / n        S = S_a + S_b + δ δᵀ n_a n_b / n        Σ = S / (n - 1)
"""

import dataclasses
from functools import cached_property
from typing import NamedTuple

import numpy as np

from codi_jax.metrics.rows import check_features


class Gaussian(NamedTuple):
    """Mean [F] and covariance [F, F], float64."""

    mean: np.ndarray
    covariance: np.ndarray


class Moments(NamedTuple):
    """Number of samples [], mean [F] and scatter matrix [F, F] of features, float64."""

    number: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray


def moments(features: np.ndarray) -> Moments:
    """The moments of features [n, F].

    Raises:
      ValueError: n < 1, or features of another rank.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or not len(x):
        raise ValueError(f"expected features [n, F] with n >= 1, got shape {x.shape}")
    mean = x.mean(0)
    centred = x - mean
    return Moments(np.array(float(len(x))), mean, centred.T @ centred)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both sets of samples, one of which may be empty."""
    number, delta = np.asarray(a.number + b.number), b.mean - a.mean
    share = b.number / np.maximum(number, 1)
    return Moments(number, a.mean + delta * share, a.scatter + b.scatter + np.outer(delta, delta) * (a.number * share))


def gaussian(of: Moments) -> Gaussian:
    """Mean and unbiased covariance.

    Raises:
      ValueError: fewer than two samples.
    """
    if of.number < 2:
        raise ValueError(f"expected features [n, F] with n >= 2, got n = {float(of.number):.0f}")
    return Gaussian(of.mean, of.scatter / (of.number - 1))


def fit(features: np.ndarray) -> Gaussian:
    """Mean and unbiased covariance of features [n, F].

    Raises:
      ValueError: n < 2, or features of another rank.
    """
    return gaussian(moments(features))


def sqrtm(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root of a positive semi-definite matrix [F, F]; negative eigenvalues, from rounding, are 0."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def distance(a: Gaussian, b: Gaussian, half: np.ndarray | None = None) -> float:
    """d² between two Gaussians, >= 0; `half` is Σ_a^½, if it is known."""
    half = sqrtm(a.covariance) if half is None else half
    inner = half @ b.covariance @ half
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh((inner + inner.T) / 2), 0)).sum()
    offset = a.mean - b.mean
    return max(float(offset @ offset + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross), 0.0)


@dataclasses.dataclass(frozen=True)
class FrechetDistance:
    """Metric {name, "n"} of batches of features [n, F].

    Attributes:
      reference: Gaussian fit of the features that the samples are compared with.
      name: of the number.
    """

    reference: Gaussian
    name: str = "frechet_distance"

    @cached_property
    def _half(self) -> np.ndarray:
        """Σ^½ of the reference, most of the time of a distance; bootstraps compute many to one reference."""
        return sqrtm(self.reference.covariance)

    def init(self) -> Moments:
        size = len(self.reference.mean)
        return Moments(np.zeros(()), np.zeros(size), np.zeros((size, size)))

    def update(self, state: Moments, batch: np.ndarray) -> Moments:
        return merge(state, moments(check_features(batch, least=1, size=len(self.reference.mean))))

    def merge(self, a: Moments, b: Moments) -> Moments:
        return merge(a, b)

    def compute(self, state: Moments) -> dict[str, float]:
        return {self.name: distance(self.reference, gaussian(state), self._half), "n": float(state.number)}
