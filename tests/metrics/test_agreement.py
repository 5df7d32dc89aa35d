"""Agreement, chance and entropy against values computed by hand, and those of a collapsed model."""

import numpy as np
import pytest

from codi_jax.metrics.agreement import (
    UNREAD,
    Agreement,
    agreement,
    agrees,
    combine,
    distribution,
    entropy,
    shuffled,
)
from codi_jax.metrics.base import compute


def chance(readings, values):
    numbers = compute(Agreement(len(readings), values), [readings])
    assert numbers["agreement"] == agreement(readings)
    return numbers["chance"]


def test_agreement_by_hand():
    a, b, c = np.array([0, 1, 2, UNREAD]), np.array([0, 1, 1, UNREAD]), np.array([0, 2, 2, UNREAD])
    assert agrees((a, b)).tolist() == [True, True, False, False]
    assert agreement((a, b)) == 0.5
    assert agreement((a, b, c)) == 0.25


def test_unread_never_agrees():
    unread = np.full(4, UNREAD)
    assert agreement((unread, unread)) == 0
    assert chance((unread, unread), 3) == 0
    assert entropy(unread, 3) == 0


def test_chance_is_the_product_of_the_marginals():
    a, b = np.array([0, 0, 1, 1]), np.array([0, 1, 1, UNREAD])
    np.testing.assert_allclose(distribution(b, 3), [0.25, 0.5, 0])
    assert chance((a, b), 3) == pytest.approx(0.5 * 0.25 + 0.5 * 0.5)
    assert chance((a, b, b), 3) == pytest.approx(0.5 * 0.25**2 + 0.5 * 0.5**2)


def test_independent_readings_agree_by_chance():
    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.3, 0.2])
    a, b = rng.choice(3, 40_000, p=p), rng.choice(3, 40_000, p=p[::-1])
    assert agreement((a, b)) == pytest.approx(chance((a, b), 3), abs=0.01)
    assert shuffled((a, a)) == pytest.approx(chance((a, a), 3), abs=0.01)


def test_a_collapsed_model_agrees_by_chance_and_has_zero_entropy():
    same = np.full(100, 7)
    assert agreement((same, same)) == chance((same, same), 10) == shuffled((same, same)) == 1
    assert entropy(same, 10) == 0


def test_entropy_is_relative_to_uniform():
    assert entropy(np.arange(10), 10) == pytest.approx(1)
    assert entropy(np.array([0, 0, 1, 1]), 4) == pytest.approx(0.5)
    assert entropy(np.array([0, 0, 1, 1, UNREAD, UNREAD]), 4) == pytest.approx(0.5)  # of the values read


def test_shuffled_readings_are_independent():
    a = np.arange(6)
    assert agreement((a, a, a)) == 1 and shuffled((a, a, a)) == 0


def test_combined_factors_are_unread_if_one_of_them_is():
    digit, colour = np.array([3, 3, 9, UNREAD]), np.array([1, 2, UNREAD, 2])
    assert combine((digit, colour), (10, 6)).tolist() == [19, 20, UNREAD, UNREAD]


def test_the_number_and_the_range_of_readings_are_checked():
    with pytest.raises(ValueError, match="expected 2 readings, got 3"):
        compute(Agreement(2, 3), [[np.array([0])] * 3])
    with pytest.raises(ValueError, match=r"a value of 3 in readings of 3 values"):
        compute(Agreement(2, 3), [[np.array([0]), np.array([3])]])
    with pytest.raises(ValueError, match="no samples"):
        compute(Agreement(2, 3), [])
