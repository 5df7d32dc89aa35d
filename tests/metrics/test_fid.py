"""FID and FVD are the Fréchet distance by name; statistics from files."""

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.metrics.base import compute
from codi_jax.metrics.fid import fid, fvd, read_statistics, write_statistics
from codi_jax.metrics.frechet import Gaussian, fit

SQUARE = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])


def test_by_hand():
    """Means (1, 1) and (4, 5); covariances 4/3 I and 3 I: 25 + 2 (√3 - √(4/3))²."""
    reference = Gaussian(np.array([4.0, 5.0]), 3 * np.eye(2))
    expected = 25 + 2 * (np.sqrt(3) - np.sqrt(4 / 3)) ** 2
    assert compute(fid(reference), [SQUARE]) == pytest.approx({"fid": expected, "n": 4})
    assert compute(fvd(reference), [SQUARE[:1], SQUARE[1:]]) == pytest.approx({"fvd": expected, "n": 4})


def test_statistics_are_written_and_read(tmp_path):
    reference = fit(SQUARE)
    write_statistics(tmp_path / "a.npz", reference)
    found = read_statistics(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.mean, reference.mean)
    np.testing.assert_array_equal(found.covariance, reference.covariance)
    assert compute(fid(found), [SQUARE])["fid"] == pytest.approx(0, abs=1e-12)


def test_damaged_statistics_are_one_line(tmp_path):
    path = tmp_path / "a.npz"
    cases = {
        "mu is not a file": {"sigma": np.eye(2)},
        r"mu \[F\] and sigma \[F, F\], got \(3,\) and \(2, 2\)": {"mu": np.zeros(3), "sigma": np.eye(2)},
        "not finite": {"mu": np.array([np.nan, 1]), "sigma": np.eye(2)},
    }
    for message, arrays in cases.items():
        np.savez(path, **arrays)
        with pytest.raises(ConfigError, match=message):
            read_statistics(path)
    for content in (b"", b"nothing", b"PK\3\4"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"a\.npz: expected an \.npz file with arrays mu and sigma: "):
            read_statistics(path)
    np.save(tmp_path / "b.npy", np.eye(2))
    for name in ("b.npy", "missing.npz"):
        with pytest.raises(ConfigError, match=r"expected an \.npz file"):
            read_statistics(tmp_path / name)


def test_features_of_another_size_are_refused():
    metric = fid(fit(SQUARE))
    with pytest.raises(ValueError, match=r"expected features \[n, 2\] with n >= 1, got shape \(5, 3\)"):
        compute(metric, [np.zeros((5, 3))])
    with pytest.raises(ValueError, match="row 1 has a value that is not finite"):
        compute(metric, [np.array([[1, 2], [np.inf, 3]])])
    with pytest.raises(ValueError, match="n >= 2, got n = 1"):
        compute(metric, [SQUARE[:1]])
