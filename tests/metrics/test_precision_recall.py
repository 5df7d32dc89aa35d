"""Precision and recall on a line by hand, in blocks, and of copies, modes left out and noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.base import compute
from codi_jax.metrics.precision_recall import (
    PrecisionRecall,
    inside,
    precision_recall,
    precision_recall_interval,
    radii,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 5)), RNG.normal(0.4, 1.3, size=(50, 5))


def line(*points):
    return np.array(points, float)[:, None]


def test_by_hand():
    """Real 0, 1, 3, 10: nearest at 1, 1, 2, 7. Generated 4, 5, 20: nearest at 1, 1, 15."""
    real, generated = line(0, 1, 3, 10), line(4, 5, 20)
    np.testing.assert_allclose(radii(real, 1), [1, 1, 4, 49])
    np.testing.assert_allclose(radii(real, 3), [100, 81, 49, 100])
    np.testing.assert_array_equal(inside(generated, real, radii(real, 1)), [True, True, False])
    np.testing.assert_array_equal(inside(real, generated, radii(generated, 1)), [False, False, True, True])
    found = precision_recall(generated, real, k=1)
    assert found == pytest.approx({"precision": 2 / 3, "recall": 1 / 2, "n": 3, "n_reference": 4})


def naive(x, y, k):
    """Share of x inside the manifold of y, from the matrix of all distances."""
    within = np.sort(np.linalg.norm(y[:, None] - y[None], axis=-1), 1)[:, k]
    return (np.linalg.norm(x[:, None] - y[None], axis=-1) <= within).any(1).mean()


@given(st.integers(1, 70), st.integers(1, 6))
def test_blocks_give_the_numbers_of_the_whole_matrix(block, k):
    found = precision_recall(X, Y, k, block)
    assert found["precision"] == naive(X, Y, k) and found["recall"] == naive(Y, X, k)


@given(st.floats(0.1, 100), st.floats(-100, 100), st.integers(0, 99))
def test_scale_shift_and_rotation_do_not_matter(scale, shift, seed):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
    assert precision_recall(X @ turn * scale + shift, Y @ turn * scale + shift) == precision_recall(X, Y)


def test_copies_are_precise_and_recalled_though_far_from_the_origin():
    found = precision_recall(np.float32(X + 1000), np.float32(X + 1000))
    assert found["precision"] == found["recall"] == 1


def test_a_mode_left_out_lowers_recall_and_noise_lowers_precision():
    modes = np.repeat([[0.0] * 5, [50.0] * 5], 30, 0)
    real = RNG.normal(size=(60, 5)) + modes
    one = precision_recall(RNG.normal(size=(60, 5)), real)
    assert one["precision"] > 0.8 and one["recall"] <= 0.5
    noisy = precision_recall(np.concatenate([real[:30] + 0.01, RNG.normal(0, 1e4, (30, 5))]), real)
    assert noisy["precision"] == 0.5


def test_the_interval_is_that_of_the_shares():
    found = precision_recall_interval(X, Y, resamples=1500)
    whole = precision_recall(X, Y)
    for name, n in (("precision", 60), ("recall", 50)):
        p = whole[name]
        assert found[name].value == p
        assert found[name].standard_error == pytest.approx(np.sqrt(p * (1 - p) / n), rel=0.1)
    fifths = Y.copy()
    fifths[np.arange(50) // 5 % 2 == 0] += 1e3  # of ten clusters every other one is far from all real samples
    clustered = precision_recall_interval(fifths, Y, clusters=(np.arange(50) // 5, None), resamples=1500)
    assert clustered["precision"].value == 0.5
    assert clustered["precision"].standard_error == pytest.approx(np.sqrt(0.25 / 10), rel=0.1)


def test_a_memory_map_serves_as_reference(tmp_path):
    np.save(tmp_path / "real.npy", Y)
    metric = PrecisionRecall(np.load(tmp_path / "real.npy", mmap_mode="r"), limit=60)
    assert compute(metric, [X[:7], X[7:]]) == precision_recall(np.float32(X), Y)


def test_bad_arguments_are_one_line():
    with pytest.raises(ValueError, match=r"expected generated features \[n, F\] with n >= 4, got shape \(3, 5\)"):
        precision_recall(X[:3], Y)
    with pytest.raises(ValueError, match=r"expected real features \[n, 5\] with n >= 4, got shape \(50, 2\)"):
        precision_recall(X, Y[:, :2])
    with pytest.raises(ValueError, match="expected k >= 1, got 0"):
        radii(X, 0)
    with pytest.raises(ValueError, match=r"radii of 50 samples, got shape \(3,\)"):
        inside(X, Y, np.ones(3))
    with pytest.raises(ValueError, match="keeps at most 5"):
        compute(PrecisionRecall(Y, limit=5), [X])
