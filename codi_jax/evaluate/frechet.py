"""Fréchet distance between Gaussian fits of two sets of features.

    d² = ‖μ_1 - μ_2‖² + tr( Σ_1 + Σ_2 - 2 (Σ_1^½ Σ_2 Σ_1^½)^½ )

(Dowson and Landau 1982); d² is what is reported, as is the custom. The square roots are of symmetric matrices and taken
by eigh, which stays real where few samples leave a covariance singular. The features are a judge's, so the number is
not FID, and only comparable within one judge. It is biased upwards for few samples: compare equal numbers of them.
"""

from typing import NamedTuple

import numpy as np


class Gaussian(NamedTuple):
    """Mean [F] and covariance [F, F], float64."""

    mean: np.ndarray
    covariance: np.ndarray


def fit(features: np.ndarray) -> Gaussian:
    """Mean and unbiased covariance of features [n, F], n >= 2."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"a Gaussian is fitted to at least two rows of features, got shape {x.shape}")
    mean = x.mean(0)
    centred = x - mean
    return Gaussian(mean, centred.T @ centred / (len(x) - 1))


def sqrtm(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semi-definite matrix; eigenvalues that rounding made negative are 0."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def distance(a: Gaussian, b: Gaussian) -> float:
    """d² of two Gaussians, >= 0."""
    half = sqrtm(a.covariance)
    inner = half @ b.covariance @ half
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh((inner + inner.T) / 2), 0)).sum()
    offset = a.mean - b.mean
    return max(float(offset @ offset + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross), 0.0)
