"""Cosines in fixed point: near to those in float64, and exact integers."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.fixed_point import SCALE, digits, similarity, similarity_of_rows


def rows(n, size, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(size=(n, size)) * scale


def exact(u, v):
    """S of all pairs, in integers of any size."""
    u, v = (x.astype(object) for x in (u, v))
    c = [sum(u[:, p] @ v[:, k - p].T for p in range(3) if 0 <= k - p < 3) for k in range(4)]
    return c[0] * 2**16 + c[1] * 2**8 + c[2] + (c[3] + 128) // 256


def test_digits_by_hand():
    """3/5 of 127 · 65536 is 4993843 = 76 · 65536 + 51 · 256 + 51, 4/5 is 6658458 = 102 · 65536 - 102 · 256 - 102."""
    assert digits(np.array([[3.0, 4.0], [0.0, -7.0]])).tolist() == [
        [[76, 102], [51, -102], [51, -102]],
        [[0, -127], [0, 0], [0, 0]],
    ]


@given(st.integers(1, 9), st.integers(1, 5), st.floats(1e-30, 1e30))
def test_digits_give_the_number_of_any_norm(n, size, scale):
    x = rows(n, size, n + size, scale)
    found = digits(x).astype(int)
    value = (found[:, 0] * 256 + found[:, 1]) * 256 + found[:, 2]
    expected = x / np.linalg.norm(x, axis=1, keepdims=True) * SCALE
    assert np.abs(value - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("size", [1, 3, 512, 1500])
def test_all_pairs_are_exact_and_near_the_cosine(size):
    x, y = rows(7, size), rows(5, size, 1)
    x[0], y[0] = 1, 1  # the largest sums, and all errors of one sign
    u, v = digits(x), digits(y)
    found = np.asarray(jax.jit(similarity)(u, v))
    assert found.dtype == np.int32 and (found == exact(u, v)).all()
    assert (similarity_of_rows(u[:5], v) == np.diag(found[:5])).all()
    cosine = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (y / np.linalg.norm(y, axis=1, keepdims=True)).T
    error = np.abs(found / (127.0**2 * 2**16) - cosine)
    assert error.max() < np.sqrt(size) / SCALE + 1e-7 and np.median(error) < 2e-7


def test_opposite_and_equal_rows_do_not_overflow():
    x = rows(4, 300)
    assert np.abs(similarity(digits(x), digits(-x)).diagonal() / (127.0**2 * 2**16) + 1).max() < 1e-5
    u = digits(np.eye(3))
    assert np.asarray(similarity(u, u)).tolist() == (np.eye(3, dtype=int) * 127**2 * 2**16).tolist()


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_row_without_direction_is_named(bad):
    x = rows(4, 2)
    x[2] = bad
    with pytest.raises(ValueError, match=r"^images: row 2 is zero or not finite: it has no direction$"):
        digits(x, "images")
