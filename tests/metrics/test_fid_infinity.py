"""FID∞: the line by hand, and its limit where FID_n is far from it."""

import numpy as np
import pytest

from codi_jax.metrics.base import compute
from codi_jax.metrics.bootstrap import bootstrap_metric
from codi_jax.metrics.fid import fid
from codi_jax.metrics.fid_infinity import FIDInfinity
from codi_jax.metrics.frechet import Gaussian, distance, fit

RNG = np.random.default_rng(0)


def test_two_sizes_give_the_line_through_both():
    features = RNG.normal(size=(40, 3))
    reference = fit(features + 1)
    metric = FIDInfinity(reference, points=2, smallest=10, limit=40, seed=4)
    found = compute(metric, [features])
    few = features[np.random.default_rng([4, 0]).permutation(40)[:10]]
    at_10, at_40 = distance(fit(few), reference), distance(fit(features), reference)
    slope = (at_10 - at_40) / (1 / 10 - 1 / 40)
    expected = {"fid_infinity": at_40 - slope / 40, "fid": at_40, "slope": slope, "n": 40}
    assert found == pytest.approx(expected)
    assert compute(fid(reference), [features])["fid"] == pytest.approx(at_40)


def test_the_limit_is_near_the_true_distance_where_fid_is_far_above():
    """Samples of the reference itself, so that the true distance is 0."""
    size = 16
    found = []
    for seed in range(5):
        features = np.random.default_rng(seed).normal(size=(1500, size))
        metric = FIDInfinity(Gaussian(np.zeros(size), np.eye(size)), points=10, smallest=300, limit=1500)
        found.append(compute(metric, [features]))
    limit, whole = (np.mean([f[name] for f in found]) for name in ("fid_infinity", "fid"))
    assert whole > 0.05 and abs(limit) < whole / 5
    assert np.mean([f["slope"] for f in found]) == pytest.approx(whole * 1500, rel=0.2)  # FID_n = c/n here


def test_an_interval_around_the_limit():
    features = RNG.normal(size=(200, 3))
    metric = FIDInfinity(fit(RNG.normal(size=(200, 3)) + 0.5), points=4, smallest=50, limit=200)
    found = bootstrap_metric(metric, features, resamples=40, centre=True)["fid_infinity"]
    assert found.low < found.value < found.high
    assert found.low < 0.75 < found.high  # the true distance


def test_bad_arguments_are_one_line():
    reference = fit(RNG.normal(size=(10, 3)))
    with pytest.raises(ValueError, match="more than smallest = 5000 samples, got 10"):
        compute(FIDInfinity(reference), [np.zeros((10, 3))])
    with pytest.raises(ValueError, match="expected points >= 2 and smallest >= 2, got 1 and 5000"):
        FIDInfinity(reference, points=1)
    with pytest.raises(ValueError, match="keeps at most 5; give a larger limit"):
        compute(FIDInfinity(reference, limit=5), [np.zeros((10, 3))])
