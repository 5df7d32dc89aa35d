"""The mix-weight curve against values computed by hand."""

import numpy as np
import pytest

from codi_jax.digit_world.benchmark.mixing import WEIGHTS, conflicting_samples, curve, curve_batch
from codi_jax.digit_world.judges.readers import Reading


def test_a_conflicting_sample_is_the_next_one_of_another_value():
    assert conflicting_samples(np.array([1, 1, 2, 1])).tolist() == [2, 2, 3, 2]
    assert conflicting_samples(np.array([3, 3])).tolist() == [0, 1]  # there is none
    truth = np.random.default_rng(0).integers(0, 10, 200)
    assert (truth[conflicting_samples(truth)] != truth).all()


def test_every_weight_has_the_same_samples():
    truth = np.array([4, 5, 4, 6] * 8)
    first, second, weight = curve_batch(truth, 32)  # two at each of eleven weights, ten rows left over
    assert first.shape == second.shape == weight.shape == (32,)
    np.testing.assert_allclose(weight, [*np.repeat(np.arange(11) / 10, 2), *[0] * 10])
    assert first.tolist() == [0, 1] * 16
    assert second.tolist() == [1, 2] * 16


def test_a_curve_by_hand():
    truth = {"digit": np.array([4, 5, 4, 6] * 8)}
    first, second, weight = curve_batch(truth["digit"], 32)
    follows_b = weight[:22] > 0.55
    digits = np.where(follows_b, truth["digit"][second[:22]], truth["digit"][first[:22]])
    digits[0] = -1  # unread
    result = curve("a", "b", truth, first, second, Reading({"digit": np.concatenate([digits, np.zeros(10, int)])}))
    assert result["n"] == 2 and result["weights"] == pytest.approx(WEIGHTS.tolist())
    assert result["digit"]["a"] == [0.5, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert result["digit"]["b"] == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
