"""Divergences of a tagger's classes by hand, and what changes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codi_jax.metrics.base import compute
from codi_jax.metrics.tagger_kl import TaggerKL, divergences

logits = arrays(np.float64, (3, 4), elements=st.floats(-20, 20))


def test_softmax_by_hand():
    real, generated = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    want = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    np.testing.assert_allclose(divergences(real, generated, epsilon=0), [want, 0], atol=1e-12)
    numbers = compute(TaggerKL(epsilon=0), [(real, generated)])
    assert numbers == pytest.approx({"kl": want / 2, "standard_error": want / 2, "n": 2})


def test_sigmoid_by_hand_sums_over_classes_without_the_complement():
    real, generated = np.array([[0.0, np.log(3)]]), np.array([[np.log(3), 0.0]])  # p = ½, ¾ and q = ¾, ½
    want = 0.5 * np.log(2 / 3) + 0.75 * np.log(3 / 2)
    np.testing.assert_allclose(divergences(real, generated, "sigmoid", 0), [want])
    assert divergences(np.zeros((1, 2)), np.full((1, 2), 5.0), "sigmoid") < 0


def test_epsilon_bounds_the_cost_of_an_impossible_class():
    real, generated = np.array([[0.0, -1000.0]]), np.array([[-1000.0, 0.0]])
    np.testing.assert_allclose(divergences(real, generated), -np.log(1e-6))
    np.testing.assert_allclose(divergences(real, generated, epsilon=0), 1000)


@given(logits, logits, st.floats(-50, 50), st.permutations(range(4)))
def test_softmax_is_a_divergence_of_classes_in_any_order(real, generated, shift, order):
    values = divergences(real, generated, epsilon=0)
    assert (values >= -1e-9).all()
    assert divergences(real, generated).min() >= -4e-6 - 1e-9
    np.testing.assert_allclose(divergences(real, real, epsilon=0), 0, atol=1e-9)
    moved = divergences(real[:, order] + shift, generated[:, order] - shift, epsilon=0)
    np.testing.assert_allclose(moved, values, rtol=1e-6, atol=1e-9)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"two arrays of logits \[n, K\], got shapes \(2, 3\) and \(2, 4\)"):
        compute(TaggerKL(), [(np.zeros((2, 3)), np.zeros((2, 4)))])
    with pytest.raises(ValueError, match="not finite"):
        compute(TaggerKL(), [(np.zeros((2, 3)), np.full((2, 3), np.inf))])
    with pytest.raises(ValueError, match="'tanh' must be one of softmax, sigmoid"):
        TaggerKL("tanh")
    with pytest.raises(ValueError, match="epsilon: -1 must be at least 0"):
        TaggerKL(epsilon=-1)
    with pytest.raises(ValueError, match="no pairs"):
        compute(TaggerKL(), [])
