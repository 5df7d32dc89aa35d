"""Offsets by hand, of identical times, and their controls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.base import compute
from codi_jax.metrics.offset import Offset, all_pairs, shuffled

METRIC = Offset({"near": 0.0625, "far": 0.1875})
times = st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=20).map(np.array)


def test_offset_by_hand():
    a = np.array([0.0, 0.5, 0.25, np.nan, 0.125, np.nan])
    b = np.array([0.0625, 0.375, 1.25, 0.5, np.nan, np.nan])
    numbers = compute(METRIC, [(a, b)])  # apart by 0.0625, 0.125 and 1
    assert numbers["n"] == 6 and numbers["read"] == 3
    assert numbers["offset"] == pytest.approx(1.1875 / 3)
    assert numbers["near"] == pytest.approx(1 / 6) and numbers["far"] == pytest.approx(2 / 6)
    assert numbers["standard_error"] == pytest.approx(np.std([0.0625, 0.125, 1], ddof=1) / np.sqrt(3))


@given(times)
def test_identical_times_have_no_offset(a):
    numbers, read = compute(METRIC, [(a, a)]), np.isfinite(a)
    assert numbers["read"] == read.sum() and numbers["near"] == pytest.approx(read.mean())
    assert numbers["offset"] == 0 if read.any() else np.isnan(numbers["offset"])


@given(times, st.floats(-2, 2))
def test_the_offset_is_symmetric_and_unchanged_by_a_common_shift(a, shift):
    b = a[::-1]
    one, other, moved = (compute(METRIC, [pair]) for pair in ((a, b), (b, a), (a + shift, b + shift)))
    assert one == pytest.approx(other, nan_ok=True)
    assert moved["offset"] == pytest.approx(one["offset"], nan_ok=True, abs=1e-9)


def test_controls_pair_different_samples():
    a, b = np.array([0.0, 1.0, 2.0]), np.array([10.0, 11.0, 12.0])
    assert [x.tolist() for x in shuffled((a, b))] == [[0, 1, 2], [12, 10, 11]]
    first, second = all_pairs((a, b))
    assert sorted(zip(first, second, strict=True)) == [(x, y) for x in a for y in b]
    apart = compute(METRIC, [all_pairs((a, a))])
    assert apart["near"] == pytest.approx(1 / 3) and apart["offset"] == pytest.approx(8 / 9)


def test_shapes_are_checked_and_no_samples_are_an_error():
    with pytest.raises(ValueError, match=r"two arrays of times \[n\], got shapes \(2,\) and \(3,\)"):
        compute(METRIC, [(np.zeros(2), np.zeros(3))])
    with pytest.raises(ValueError, match="no samples"):
        compute(METRIC, [])
