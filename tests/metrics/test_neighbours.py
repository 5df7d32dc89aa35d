"""Distances to the nearest training sample, against all pairs, of copies, and their comparison by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.base import compute
from codi_jax.metrics.neighbours import NearestDistance, memorisation, verbatim_share

RNG = np.random.default_rng(0)
TRAINING = RNG.normal(100, 1, (40, 30)).astype(np.float32)  # far from 0, so that the sum of squares would cancel
QUERIES = RNG.normal(100, 1, (7, 30)).astype(np.float32)


def nearest(queries, training, chunk=16):
    metric = NearestDistance(queries)
    state = metric.init()
    for start in range(0, len(training), chunk):
        state = metric.update(state, training[start : start + chunk])
    return state


@given(st.integers(1, 40))
def test_the_nearest_of_all_pairs_is_found_in_any_chunks(chunk):
    expected = np.linalg.norm(QUERIES[:, None].astype(np.float64) - TRAINING, axis=-1).min(1)
    np.testing.assert_allclose(nearest(QUERIES, TRAINING, chunk), expected, rtol=1e-5)


@given(st.integers(0, 39))
def test_a_training_sample_has_a_distance_of_zero(row):
    found = nearest(np.concatenate([QUERIES, TRAINING[row : row + 1]]), TRAINING)
    assert found[-1] == 0 and (found[:-1] > 0).all()
    assert compute(NearestDistance(TRAINING), [TRAINING]) == {"median": 0, "smallest": 0}


def test_memorisation_by_hand():
    real = np.arange(101.0)  # its p-th percentile is p
    numbers = memorisation(np.array([0.0, 0.5, 3.0, 80.0]), real)
    assert numbers == {"median": 1.75, "real_median": 50, "ratio": 0.035, "near_1": 0.5, "near_5": 0.75}
    assert memorisation(real, real)["ratio"] == 1
    assert np.isnan(memorisation(real, np.zeros(3))["ratio"])


def test_invalid_samples_are_an_error():
    with pytest.raises(ValueError, match="no training samples"):
        compute(NearestDistance(QUERIES), [])
    with pytest.raises(ValueError, match=r"expected samples \[m, 30\] with m >= 1, got shape \(0, 30\)"):
        compute(NearestDistance(QUERIES), [TRAINING[:0]])
    with pytest.raises(ValueError, match=r"queries \[n, F\] with n >= 1, got shape \(0, 30\)"):
        NearestDistance(QUERIES[:0])
    with pytest.raises(ValueError, match="got 0 generated and 2 real ones"):
        memorisation(np.zeros(0), np.zeros(2))


def test_verbatim_captions_by_hand():
    assert verbatim_share(["a red two", "a two", "A red two", "a red two"], {"a red two"}) == 0.5
    with pytest.raises(ValueError, match="no captions"):
        verbatim_share([], {"a"})
