"""The Fréchet distance against closed forms."""

import numpy as np
import pytest

from codi_jax.metrics.frechet import Gaussian, distance, fit, sqrtm


def test_fit_by_hand():
    gaussian = fit(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]]))
    np.testing.assert_allclose(gaussian.mean, [1, 2])
    np.testing.assert_allclose(gaussian.covariance, [[4 / 3, 0], [0, 16 / 3]])


def test_one_dimension():
    a, b = Gaussian(np.array([1.0]), np.array([[4.0]])), Gaussian(np.array([4.0]), np.array([[25.0]]))
    assert distance(a, b) == pytest.approx(3**2 + (5 - 2) ** 2)


def test_commuting_covariances():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    s, t = rng.uniform(0.1, 2, 5), rng.uniform(0.1, 2, 5)
    a, b = (Gaussian(np.zeros(5), basis @ np.diag(x**2) @ basis.T) for x in (s, t))
    assert distance(a, b) == pytest.approx(((s - t) ** 2).sum())


def test_against_the_square_root_of_the_product():
    """tr (Σ1^½ Σ2 Σ1^½)^½ = tr (Σ1 Σ2)^½, whose eigenvalues are positive though the product is not symmetric."""
    rng = np.random.default_rng(1)
    a, b = (fit(rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4))) for _ in range(2))
    cross = np.sqrt(np.linalg.eigvals(a.covariance @ b.covariance).real).sum()
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance) - 2 * cross
    assert distance(a, b) == pytest.approx(expected)
    assert distance(a, b) == pytest.approx(distance(b, a))


def test_sqrtm_and_a_singular_covariance():
    few = fit(np.random.default_rng(2).normal(size=(6, 20)))  # of rank 5
    np.testing.assert_allclose(sqrtm(few.covariance) @ sqrtm(few.covariance), few.covariance, atol=1e-12)
    assert distance(few, few) == pytest.approx(0, abs=1e-6)


def test_distance_grows_with_the_square_of_a_shift():
    x = np.random.default_rng(3).normal(size=(200, 8))
    distances = [distance(fit(x), fit(x + shift)) for shift in (0, 0.5, 1)]
    assert distances == pytest.approx([0, 8 * 0.25, 8], abs=1e-9)


def test_fit_needs_two_samples():
    with pytest.raises(ValueError, match="n >= 2"):
        fit(np.zeros((1, 3)))
