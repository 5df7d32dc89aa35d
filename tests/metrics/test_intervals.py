"""The intervals of a proportion and of an entropy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.intervals import Z95, entropy_interval, proportion_interval, wilson


def test_published_examples():
    """Newcombe (1998), table I, method 3 (the score method without continuity correction)."""
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@pytest.mark.parametrize(("k", "n"), [(1, 3), (250, 256), (128, 256)])
def test_bounds_solve_the_defining_equation(k, n):
    for p in wilson(k / n, n):
        assert abs(k / n - p) == pytest.approx(Z95 * math.sqrt(p * (1 - p) / n))


def test_bounds_at_one_stay_within_bounds_and_have_a_width():
    assert wilson(1.0, 256)[1] == 1 and 0.98 < wilson(1.0, 256)[0] < 1
    with pytest.raises(ValueError, match="at least one sample"):
        wilson(0.5, 0)


def test_bounds_of_an_entropy_by_hand():
    # Five equal draws of two values: 1/10 ± 1.96 sqrt(1/50), divided by ln 2.
    assert entropy_interval([5, 0]) == pytest.approx((0, (0.1 + 1.959964 * 0.1414214) / 0.6931472), abs=1e-5)
    # Three of each of ten: (ln 10 + 9/60 - 1.96 sqrt(9/1800)) / ln 10 is above 1.
    assert entropy_interval([3] * 10) == (1, 1)
    # p = 1/4, 3/4 of 64: H = 0.562335, Σ p ln² p = 0.542523; (H + 1/128 ± 1.96 sqrt(0.226303/64 + 1/8192)) / ln 2
    assert entropy_interval([16, 48]) == pytest.approx((0.651529, 0.993569), abs=1e-5)
    with pytest.raises(ValueError, match="K >= 2 and at least one draw"):
        entropy_interval([0, 0])


@pytest.mark.parametrize("p", [np.full(10, 0.1), np.array([0.3, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05])])
def test_upper_bound_of_an_entropy_covers_the_true_value_95_percent_of_the_time(p):
    draws = np.random.default_rng(0).multinomial(32, p, size=2000)
    true = -(p * np.log(p)).sum() / np.log(10)
    bounds = np.array([entropy_interval(row) for row in draws])
    assert (bounds[:, 1] >= true - 1e-12).mean() > 0.95


def test_an_effective_number_of_samples_by_hand():
    """Ten results in five clusters of two: three clusters are right, one is wrong, one is half right.

    p = 0.7; deviations of the clusters' sums are 0.6 (three times), -1.4 and -0.4, so V = 5/4 · 3.2/100 = 0.04, deff =
    0.04 / (0.21/9) = 1.7143, and the quantiles of Student's t with 9 and 4 degrees of freedom are 2.2622 and 2.7764.
    """
    results = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1, 0], bool)
    found = proportion_interval(results, [np.repeat([7, 3, 5, 1, 2], 2)])
    assert (found.proportion, found.clusters) == (0.7, 5)
    assert found.n_effective == pytest.approx(10 / 1.714286 * (2.262157 / 2.776445) ** 2, rel=1e-5)
    assert found.interval == wilson(0.7, found.n_effective)
    assert found.entries() == {
        **{"interval": list(found.interval), "clusters": 5, "n_effective": found.n_effective},
    }
    # Of two clusterings the one that leaves fewer samples; every sample for itself changes nothing.
    both = proportion_interval(results, [np.arange(10), np.repeat([7, 3, 5, 1, 2], 2)])
    assert both == found
    alone = proportion_interval(results, [np.arange(10)])
    assert alone.clusters == 10 and alone.n_effective == pytest.approx(10)
    assert proportion_interval(results) == (0.7, wilson(0.7, 10), 10, 10.0)


def test_without_a_failure_there_is_no_evidence_of_clusters():
    clusters = np.repeat(np.arange(40), 6)
    for results in (np.ones(240), np.zeros(240)):
        found = proportion_interval(results, [clusters])
        assert found.clusters == 40 and 220 < found.n_effective < 240  # the degrees of freedom only
    assert proportion_interval(np.ones(8), [np.zeros(8)])[2:] == (1, 1.0)
    with pytest.raises(ValueError, match=r"clusters of 3 results, at least one, got \[\(2,\)\]"):
        proportion_interval(np.ones(3), [np.zeros(2)])
    with pytest.raises(ValueError, match="at least one"):
        proportion_interval(np.zeros(0))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=40))
def test_clusters_only_widen_an_interval(rows):
    results, clusters = (np.array(column) for column in zip(*rows, strict=True))
    found = proportion_interval(results, [clusters])
    low, high = wilson(results.mean(), len(rows))
    assert 1 <= found.n_effective <= len(rows) + 1e-9 and found.clusters == len(set(clusters.tolist()))
    assert found.interval[0] <= low + 1e-12 and found.interval[1] >= high - 1e-12


@pytest.mark.parametrize(
    ("p", "clusters", "size", "plain"), [(0.8, 40, 6, 0.85), (0.95, 40, 6, 0.88), (0.8, 6, 43, 0.5)]
)
def test_the_interval_of_clustered_samples_covers_the_proportion_95_percent_of_the_time(p, clusters, size, plain):
    """Each cluster has its own rate, drawn from a beta distribution of mean p and intraclass correlation 0.25."""
    rng, trials, scale = np.random.default_rng(0), 1000, 1 / 0.25 - 1
    cluster = np.repeat(np.arange(clusters), size)
    rates = rng.beta(p * scale, (1 - p) * scale, (trials, clusters))
    results = rng.random((trials, clusters * size)) < rates[:, cluster]
    bounds = [(proportion_interval(row, [cluster]).interval, wilson(row.mean(), len(row))) for row in results]
    covered = np.mean([[low <= p <= high for low, high in pair] for pair in bounds], axis=0)
    assert 0.91 < covered[0] < 0.985 and covered[1] < plain
