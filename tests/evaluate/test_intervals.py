"""The Wilson interval."""

import math

import pytest

from codi_jax.evaluate.intervals import Z95, wilson


def test_published_example():
    """Newcombe (1998), table I, method 3 (the score method without continuity correction)."""
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@pytest.mark.parametrize(("k", "n"), [(1, 3), (250, 256), (128, 256)])
def test_bounds_solve_the_defining_equation(k, n):
    for p in wilson(k / n, n):
        assert abs(k / n - p) == pytest.approx(Z95 * math.sqrt(p * (1 - p) / n))


def test_certainty_stays_within_bounds_and_has_a_width():
    assert wilson(1.0, 256)[1] == 1 and 0.98 < wilson(1.0, 256)[0] < 1
    with pytest.raises(ValueError, match="at least one sample"):
        wilson(0.5, 0)
