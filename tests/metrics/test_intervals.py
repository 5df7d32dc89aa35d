"""The intervals of a proportion and of an entropy."""

import math

import numpy as np
import pytest

from codi_jax.metrics.intervals import Z95, entropy_interval, wilson


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
