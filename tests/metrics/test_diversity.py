"""Diversity by hand, against all pairs, and of copies."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.base import compute
from codi_jax.metrics.diversity import WithinClassDiversity, distances, distinct_share, moments

REAL = np.array([[0.0, 0.0], [6.0, 8.0], [1.0, 1.0], [1.0, 3.0]])
CLASSES = np.array([0, 0, 1, 1])
METRIC = WithinClassDiversity(moments(REAL, CLASSES, 3, 2))


def test_diversity_by_hand():
    assert distances(METRIC.reference)[:2].tolist() == [10, 2] and np.isnan(distances(METRIC.reference)[2])
    generated = np.array([[0.0, 0.0], [0.0, 5.0], [7.0, 7.0], [7.0, 8.0], [9.0, 9.0], [0.0, 99.0]])
    numbers = compute(METRIC, [(generated, np.array([0, 0, 1, 1, 2, -1]))])
    assert numbers == {"diversity": 0.5, "distance": 3, "reference_distance": 6, "classes": 2}


def test_the_distance_is_that_of_all_pairs():
    x = np.random.default_rng(0).normal(1e3, 1, (9, 5))
    pairs = [np.square(a - b).sum() for a, b in combinations(x, 2)]
    assert distances(moments(x, np.zeros(9, int), 1, 5))[0] == pytest.approx(np.sqrt(np.mean(pairs)))


@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_real_samples_have_a_diversity_of_one_which_scales_and_does_not_move(scale, shift):
    assert compute(METRIC, [(REAL, CLASSES)])["diversity"] == 1
    assert compute(METRIC, [(REAL * scale + shift, CLASSES)])["diversity"] == pytest.approx(scale)


@given(st.integers(2, 9))
def test_copies_have_a_diversity_of_zero(n):
    assert compute(METRIC, [(np.tile(REAL[:1], (n, 1)), np.zeros(n, int))])["diversity"] == 0


def test_there_is_no_diversity_of_single_samples():
    numbers = compute(METRIC, [(REAL[:2], np.array([0, 1]))])
    assert np.isnan(numbers["diversity"]) and numbers["classes"] == 0
    still = WithinClassDiversity(moments(REAL[[0, 0]], CLASSES[:2], 3, 2))  # real samples that are one
    assert np.isnan(compute(still, [(REAL, CLASSES)])["diversity"])


def test_shapes_and_classes_are_checked():
    with pytest.raises(ValueError, match=r"expected samples \[4, 2\], got shape \(4, 3\)"):
        compute(METRIC, [(np.zeros((4, 3)), CLASSES)])
    with pytest.raises(ValueError, match="classes 0 to 3 of 3 classes"):
        compute(METRIC, [(REAL, np.array([0, 1, 2, 3]))])


def test_the_share_of_distinct_captions_by_hand():
    captions = ["a", "a", "b", "a", "c", "d", "e"]  # two of three, one of one (left out), two of two
    assert distinct_share(captions, np.array([0, 0, 0, 1, 2, 2, -1])) == pytest.approx((2 / 3 + 1) / 2)
    assert distinct_share(["a"] * 5, np.zeros(5, int)) == 1 / 5
    assert np.isnan(distinct_share(["a", "b"], np.array([0, 1])))
