"""Bootstrap intervals: draws, quantiles by hand, the standard error of a mean, clusters and coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.bootstrap import bootstrap, bootstrap_metric, interval, resample_counts, resamples_of
from codi_jax.metrics.frechet import FrechetDistance, fit

RNG = np.random.default_rng(0)


def mean_of(values):
    return lambda rows: {"mean": float(values[rows].mean())}


def test_an_interval_by_hand():
    """0, 1, …, 100: quantiles of 5 and 95 % are 5 and 95, the mean is 50, the standard deviation √(n(n + 1)/12)."""
    found = interval(48, np.arange(101.0), level=0.9)
    assert found[:3] == pytest.approx((48, 5, 95)) and found.bias == pytest.approx(2)
    assert found.standard_error == pytest.approx(np.sqrt(101 * 102 / 12))
    assert interval(48, np.arange(101.0), level=0.9, centre=True)[:3] == pytest.approx((48, 3, 93))
    assert found.entries() == {"interval": [found.low, found.high], "standard_error": found.standard_error}


def test_the_standard_error_of_a_mean():
    values = RNG.normal(size=400)
    found = bootstrap(mean_of(values), 400, resamples=2000)["mean"]
    assert found.value == values.mean()
    assert found.standard_error == pytest.approx(values.std() / 20, rel=0.06)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)


def test_95_percent_intervals_cover_the_mean_about_as_often():
    hits = 0
    for trial in range(120):
        found = bootstrap(mean_of(RNG.normal(3, 1, 40)), 40, resamples=100, seed=trial)["mean"]
        hits += found.low <= 3 <= found.high
    assert 0.85 <= hits / 120 < 1  # a standard deviation is .02; a percentile interval of 40 samples covers 93 %


@given(st.integers(1, 30), st.integers(0, 5))
def test_draws_are_rows_in_order_and_do_not_depend_on_how_many_there_are(n, seed):
    few = [rows for (rows,) in resamples_of(n, resamples=3, seed=seed)]
    many = [rows for (rows,) in resamples_of(n, resamples=5, seed=seed)]
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a, b)
    assert all(len(rows) == n and (np.diff(rows) >= 0).all() and rows[0] >= 0 and rows[-1] < n for rows in many)


def test_counts_are_those_of_the_draws():
    clusters = np.array([5, 1, 5, 2, 1])
    a, b = resample_counts(4, clusters, resamples=6, seed=2)
    assert a.shape == (6, 4) and b.shape == (6, 5)
    for r, (rows, others) in enumerate(resamples_of(4, clusters, resamples=6, seed=2)):
        np.testing.assert_array_equal(a[r], np.bincount(rows, minlength=4))
        np.testing.assert_array_equal(b[r], np.bincount(others, minlength=5))
    assert (a.sum(1) == 4).all()


def test_whole_clusters_are_drawn_as_many_as_there_are():
    clusters = np.repeat([7, 3, 9], [1, 2, 4])
    (counts,) = resample_counts(clusters, resamples=50)
    for member in (slice(0, 1), slice(1, 3), slice(3, 7)):
        assert (counts[:, member] == counts[:, member][:, :1]).all()
    assert (counts[:, [0, 1, 3]].sum(1) == 3).all()


def test_clusters_widen_the_interval():
    values = np.repeat(RNG.normal(size=50), 8)  # 50 independent values, each 8 times
    alone = bootstrap(mean_of(values), 400, resamples=500)["mean"].standard_error
    clustered = bootstrap(mean_of(values), np.repeat(np.arange(50), 8), resamples=500)["mean"].standard_error
    assert clustered / alone == pytest.approx(np.sqrt(8), rel=0.15)


def test_sets_are_drawn_independently():
    x, y = RNG.normal(0, 1, 300), RNG.normal(0, 2, 300)
    found = bootstrap(lambda a, b: {"gap": x[a].mean() - y[b].mean()}, 300, 300, resamples=1000)["gap"]
    assert found.standard_error == pytest.approx(np.sqrt(x.var() / 300 + y.var() / 300), rel=0.1)


def test_a_metric_read_in_blocks_of_a_memory_map(tmp_path):
    features = RNG.normal(size=(60, 3))
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    metric = FrechetDistance(fit(RNG.normal(size=(60, 3))))
    found = bootstrap_metric(metric, mapped, block=7, resamples=40, centre=True)
    again = bootstrap_metric(metric, features, resamples=40, centre=True)
    for name in ("frechet_distance", "n"):
        assert found[name] == pytest.approx(again[name])
    assert found["n"].low == found["n"].high == 60
    distance = found["frechet_distance"]
    assert distance.bias > 0 and distance.low < distance.value < distance.high
    plain = bootstrap_metric(metric, features, resamples=40)["frechet_distance"]
    assert plain.low - distance.low == pytest.approx(distance.bias)
    clustered = bootstrap_metric(metric, features, clusters=np.arange(60) // 2, resamples=40, centre=True)
    assert clustered["frechet_distance"].value == pytest.approx(distance.value)


@pytest.mark.parametrize("samples", [(1,), (np.zeros(4, int),), (4, 1), (np.array([3, 3]), 4)])
def test_a_single_sample_or_cluster_has_no_interval(samples):
    found = bootstrap(lambda *rows: {"n": float(sum(map(len, rows)))}, *samples, resamples=3)["n"]
    assert found.value == sum(s if isinstance(s, int) else len(s) for s in samples) and np.isnan(found[1:]).all()


def test_a_statistic_that_a_resample_does_not_have_has_no_interval():
    found = interval(2, np.array([1, np.nan, 3]), 3)
    assert found.value == 2 and np.isnan(found[1:]).all()


def test_equal_samples_have_an_interval_without_width():
    assert bootstrap(mean_of(np.ones(2)), 2, resamples=3)["mean"] == (1, 1, 1, 0, 0)


def test_bad_arguments_are_one_line():
    with pytest.raises(ValueError, match="at least one sample to draw from, got 0"):
        bootstrap(lambda rows: {}, 0)
    with pytest.raises(ValueError, match=r"clusters of at least one sample, \[n\], got shape \(0,\)"):
        bootstrap(lambda rows: {}, np.array([], int))
    with pytest.raises(ValueError, match=r"2 resamples and a level in \(0, 1\), got 1 and 0.95"):
        bootstrap(lambda rows: {}, 3, resamples=1)
    with pytest.raises(ValueError, match="got 1000 and 95"):
        bootstrap(lambda rows: {}, 3, level=95)
    with pytest.raises(ValueError, match=r"expected clusters of 4 samples, got shape \(3,\)"):
        bootstrap_metric(FrechetDistance(fit(np.eye(3))), np.eye(4)[:, :3], clusters=np.arange(3))
