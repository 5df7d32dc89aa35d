"""Fréchet distance between Gaussian fits of two sets of features.

    d² = ‖μ_1 - μ_2‖² + tr( Σ_1 + Σ_2 - 2 (Σ_1^½ Σ_2 Σ_1^½)^½ )

(Dowson and Landau 1982). The reported number is d², as usual. The square roots are of symmetric matrices and computed
with eigh, which stays real if few samples leave a covariance singular. The features are those of a judge, so the number
is not FID and only comparable between samples read by the same judge. It is biased upwards for few samples: compare
equal numbers of samples.
"""

from typing import NamedTuple

import numpy as np


class Gaussian(NamedTuple):
    """Mean [F] and covariance [F, F], float64."""

    mean: np.ndarray
    covariance: np.ndarray


def fit(features: np.ndarray) -> Gaussian:
    """Mean and unbiased covariance of features [n, F].

    Raises:
      ValueError: n < 2, or features of another rank.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"expected features [n, F] with n >= 2, got shape {x.shape}")
    mean = x.mean(0)
    centred = x - mean
    return Gaussian(mean, centred.T @ centred / (len(x) - 1))


def sqrtm(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root of a positive semi-definite matrix [F, F]; negative eigenvalues, from rounding, are 0."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def distance(a: Gaussian, b: Gaussian) -> float:
    """d² between two Gaussians, >= 0."""
    half = sqrtm(a.covariance)
    inner = half @ b.covariance @ half
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh((inner + inner.T) / 2), 0)).sum()
    offset = a.mean - b.mean
    return max(float(offset @ offset + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross), 0.0)
