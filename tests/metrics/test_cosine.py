"""Cosines by hand, the exact shuffled control, and invariances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codi_jax.metrics.base import compute
from codi_jax.metrics.cosine import PairedCosine, cosines

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 7, 5))
FRAMES = RNG.normal(size=(7, 3, 5))


def brute_force(a, b):
    """Mean cosine of all i ≠ j, by two loops."""
    pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if i != j]
    return np.mean([cosines(a[[i]], b[[j]])[0] for i, j in pairs])


def test_by_hand():
    a, b = np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [0.0, -1.0]])
    numbers = compute(PairedCosine(2, clip_score=True), [(a, b)])
    assert numbers == pytest.approx(
        {
            "cosine": (0.6 - 1) / 2,
            "shuffled": (-0.8 + 0) / 2,
            "standard_error": 0.8,  # deviations of ±0.8: √(2 · 0.8² / 1) / √2
            "n": 2,
            "clip_score": 2.5 * 0.6 / 2,
        }
    )


@pytest.mark.parametrize("a", [A, FRAMES], ids=["images", "frames"])
def test_shuffled_is_the_mean_over_all_different_samples(a):
    numbers = compute(PairedCosine(5), [(a, B)])
    assert numbers["shuffled"] == pytest.approx(brute_force(a, B))
    assert compute(PairedCosine(5), [(B, a)])["shuffled"] == pytest.approx(brute_force(a, B))


def test_of_frames_the_cosine_is_the_mean_over_frames():
    want = np.mean([cosines(FRAMES[:, t], B) for t in range(3)], axis=0)
    np.testing.assert_allclose(cosines(FRAMES, B), want)
    np.testing.assert_allclose(cosines(A[:, None], B), cosines(A, B))


@given(arrays(np.float64, 7, elements=st.floats(0.01, 100)))
def test_lengths_and_rotations_do_not_matter(scale):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    one = compute(PairedCosine(5, True), [(A, B)])
    assert compute(PairedCosine(5, True), [(scale[:, None] * A @ turn, B @ turn)]) == pytest.approx(one)


def test_captions_of_the_images_themselves_agree_and_shuffled_ones_do_not():
    x = np.eye(6)
    assert compute(PairedCosine(6), [(x, x)]) == pytest.approx(
        {"cosine": 1, "shuffled": 0, "standard_error": 0, "n": 6}
    )


def test_a_single_pair_has_no_control():
    numbers = compute(PairedCosine(5), [(A[:1], B[:1])])
    assert np.isnan(numbers["shuffled"]) and np.isnan(numbers["standard_error"]) and numbers["n"] == 1


def test_bad_embeddings_are_named():
    metric = PairedCosine(5)
    zero = A.copy()
    zero[3] = 0
    with pytest.raises(ValueError, match="sample 3 is zero or not finite"):
        compute(metric, [(zero, B)])
    frames = FRAMES.copy()
    frames[2, 1, 0] = np.nan
    with pytest.raises(ValueError, match="sample 2 is zero or not finite"):
        compute(metric, [(frames, B)])
    with pytest.raises(ValueError, match=r"on both sides, got \(7, 5\) and \(6, 5\)"):
        compute(metric, [(A, B[:6])])
    with pytest.raises(ValueError, match="of size 4, got 5"):
        compute(PairedCosine(4), [(A, B)])
    with pytest.raises(ValueError, match=r"\[n, D\], or of frames \[n, T, D\], got shape \(5,\)"):
        compute(metric, [(A[0], B)])
    with pytest.raises(ValueError, match="no pairs"):
        compute(metric, [])
