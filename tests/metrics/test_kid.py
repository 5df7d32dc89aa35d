"""KID by hand, against all pairs, in blocks, and the bootstrap of the kernel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.base import compute
from codi_jax.metrics.bootstrap import resamples_of
from codi_jax.metrics.kid import KernelDistance, draw_subsets, kernel, kid, kid_interval, mmd2, mmd2_of_subsets

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)), RNG.normal(0.5, 1.2, size=(30, 4))


def test_by_hand():
    """F = 2: k((2, 0), (0, 2)) = 1, k((2, 0), (2, 0)) = 27; real samples (2, 0) twice."""
    x, y = np.array([[2.0, 0], [0, 2]]), np.array([[2.0, 0], [2, 0]])
    np.testing.assert_allclose(kernel(x, y), [[27, 27], [1, 1]])
    assert mmd2(x, y) == pytest.approx(1 + 27 - 2 * (27 + 1) / 2)
    assert kid(x, y, subsets=0) == pytest.approx({"kid": 0, "kid_std": 0, "n": 2, "n_reference": 2})


def pairs(x, w=None):
    w = np.ones(len(x)) if w is None else w
    return [(w[i] * w[j], (x[i] @ x[j] / x.shape[1] + 1) ** 3) for i in range(len(x)) for j in range(len(x)) if i != j]


def naive(x, y, w=None, v=None):
    w, v = (np.ones(len(s)) if c is None else c for s, c in ((x, w), (y, v)))
    within = [sum(c * k for c, k in of) / sum(c for c, _ in of) for of in (pairs(x, w), pairs(y, v))]
    between = sum(
        a * b * (p @ q / x.shape[1] + 1) ** 3 for a, p in zip(w, x, strict=True) for b, q in zip(v, y, strict=True)
    )
    return sum(within) - 2 * between / (w.sum() * v.sum())


@given(st.integers(1, 50))
def test_blocks_give_the_sum_over_all_pairs(block):
    assert mmd2(X, Y, block) == pytest.approx(naive(X, Y), rel=1e-9)


@given(st.permutations(range(40)))
def test_the_order_of_samples_and_features_does_not_matter(order):
    turn = np.linalg.qr(np.random.default_rng(order[0]).normal(size=(4, 4)))[0]
    assert mmd2(X[list(order)] @ turn, Y @ turn) == pytest.approx(mmd2(X, Y))
    assert mmd2(Y, X) == pytest.approx(mmd2(X, Y))


def test_without_bias_between_samples_of_one_distribution():
    values = [mmd2(*np.random.default_rng(seed).normal(size=(2, 20, 4))) for seed in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)
    assert min(values) < 0


def test_subsets():
    drawn = list(draw_subsets(40, 30, 4, 9, seed=1))
    assert all(len(set(rows)) == len(set(others)) == 9 for rows, others in drawn)
    values = mmd2_of_subsets(X, Y, drawn)
    assert values == pytest.approx([mmd2(X[rows], Y[others]) for rows, others in drawn])
    found = kid(X, Y, subsets=4, size=9, seed=1)
    assert found == pytest.approx({"kid": values.mean(), "kid_std": values.std(), "n": 40, "n_reference": 30})
    many = kid(X, Y, subsets=600, size=9)
    assert abs(many["kid"] - mmd2(X, Y)) < 4 * many["kid_std"] / np.sqrt(600)


def test_a_resample_leaves_pairs_of_a_sample_with_itself_out():
    found = kid_interval(X, Y, resamples=5, seed=3, block=16)
    values = []
    for rows, others in resamples_of(40, 30, resamples=5, seed=3):
        values.append(naive(X, Y, np.bincount(rows, minlength=40), np.bincount(others, minlength=30)))
    assert found.value == pytest.approx(mmd2(X, Y))
    assert found.bias == pytest.approx(np.mean(values) - found.value)
    assert found.standard_error == pytest.approx(np.std(values, ddof=1))


def test_the_interval_has_the_spread_of_new_samples():
    def draw(seed):
        rng = np.random.default_rng(seed)
        return rng.normal(size=(120, 4)), rng.normal(0.7, 1, size=(120, 4))

    spread = np.std([mmd2(*draw(seed)) for seed in range(200)])
    errors = [kid_interval(*draw(seed), resamples=200).standard_error for seed in range(5)]
    assert np.mean(errors) == pytest.approx(spread, rel=0.25)


def test_few_samples_have_a_number_and_no_interval():
    """Of 50 resamples of two samples, some hold one of them twice."""
    found = kid_interval(X[:2], Y[:2], resamples=50)
    assert found.value == mmd2(X[:2], Y[:2]) and np.isnan(found[1:]).all()
    single = kid_interval(X, Y, clusters=(np.zeros(len(X), int), None), resamples=5)
    assert single.value == mmd2(X, Y) and np.isnan(single[1:]).all()


def test_a_memory_map_serves_as_reference(tmp_path):
    np.save(tmp_path / "real.npy", np.float32(Y))
    metric = KernelDistance(np.load(tmp_path / "real.npy", mmap_mode="r"), subsets=3, size=10, limit=40)
    assert compute(metric, [X[:7], X[7:]]) == pytest.approx(kid(np.float32(X), np.float32(Y), 3, 10))


def test_bad_arguments_are_one_line():
    with pytest.raises(ValueError, match="subsets of 1000 samples need as many, got 40 generated and 30 real ones"):
        kid(X, Y)
    with pytest.raises(ValueError, match=r"expected real features \[n, 4\] with n >= 2, got shape \(30, 3\)"):
        mmd2(X, Y[:, :3])
    with pytest.raises(ValueError, match="at least one subset of at least two samples, got 3 of 1"):
        kid(X, Y, subsets=3, size=1)
    with pytest.raises(ValueError, match=r"expected clusters of 30 samples, got shape \(3,\)"):
        kid_interval(X, Y, clusters=(None, np.arange(3)))
    with pytest.raises(ValueError, match="keeps at most 39"):
        compute(KernelDistance(Y, limit=39), [X])
