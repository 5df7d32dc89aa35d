"""The correlation over lags: known lags, exact controls, and what it ignores."""

import numpy as np
import pytest

from codi_jax.metrics.base import compute
from codi_jax.metrics.lag_curve import LagCurve
from codi_jax.metrics.onsets import ONSET_RATE
from codi_jax.metrics.synchrony import Strengths

RATE, SECONDS = 25, 2.0
METRIC = LagCurve(RATE, SECONDS)
EVENTS = np.random.default_rng(0).uniform(0.6, 1.4, 12)  # seconds


def bump(times, event):
    return np.exp(-0.5 * ((times - event) / 0.04) ** 2)


def batch(delay=0.0, pixels=2.0):
    """Motion and onsets of events, those of audio late by `delay` seconds."""
    changes, frames = np.arange(1, 50) / RATE, np.arange(88) / ONSET_RATE
    flow = pixels * np.stack([bump(changes, event) for event in EVENTS])
    return Strengths(flow, np.zeros_like(flow), np.stack([bump(frames, event + delay) for event in EVENTS]))


@pytest.mark.parametrize("delay", [-0.3, 0.0, 0.16])
def test_the_lag_of_late_audio_is_positive(delay):
    numbers = compute(METRIC, [batch(delay)])
    assert numbers["lag"] == pytest.approx(delay, abs=0.021)
    assert numbers["peak"] > 0.95 > 0.5 > numbers["shuffled_peak"]
    assert numbers["n"] == 12 and numbers["still_peak"] == numbers["still_share"] == 0


def test_the_curve_is_a_correlation():
    """At lag 0 it is Pearson's, at others that of the shifted series."""
    metric = LagCurve(10, 1.0, max_lag=0.2, step=0.1)
    flow = np.abs(np.random.default_rng(1).normal(size=(1, 9))) + 1
    grid = np.arange(10) / 10
    onset = np.random.default_rng(2).uniform(size=(1, 45))
    curve = metric.per_sample(Strengths(flow, flow * 0, onset))[0]
    v = np.interp(grid, np.arange(1, 10) / 10, flow[0])
    a = np.interp(grid, np.arange(45) / ONSET_RATE, onset[0])
    np.testing.assert_allclose(metric.lags, [-0.2, -0.1, 0, 0.1, 0.2])
    assert curve[2] == pytest.approx(np.corrcoef(v, a)[0, 1])
    dv, da = (x - x.mean() for x in (v, a))
    assert curve[4] == pytest.approx((dv[:-2] * da[2:]).sum() / np.sqrt((dv @ dv) * (da @ da)))


def test_shuffled_is_the_mean_over_all_different_samples():
    whole = batch(0.1)
    curves = METRIC.curves(METRIC.update(METRIC.init(), whole))
    pairs = [
        METRIC.per_sample(Strengths(whole.flow[[i]], whole.still[[i]], whole.onset[[j]]))[0]
        for i in range(12)
        for j in range(12)
        if i != j
    ]
    np.testing.assert_allclose(curves.shuffled, np.mean(pairs, axis=0), atol=1e-12)
    np.testing.assert_allclose(curves.paired, METRIC.per_sample(whole).mean(0), atol=1e-12)


def test_strength_does_not_matter_unless_there_is_no_motion():
    want = compute(METRIC, [batch()])
    louder = batch(pixels=7)
    assert compute(METRIC, [louder._replace(onset=30 * louder.onset)]) == pytest.approx(want)
    faint = compute(METRIC, [batch(pixels=0.09)])
    assert faint["peak"] == 0 and faint["still_share"] == 1
    silent = compute(METRIC, [louder._replace(onset=0 * louder.onset)])
    assert silent["peak"] == 0 and silent["still_share"] == 0
    steady = compute(METRIC, [louder._replace(flow=np.full_like(louder.flow, 3.3))])
    assert steady["peak"] == 0 and steady["still_share"] == 0


def test_the_still_control_is_measured():
    one = batch()
    assert compute(METRIC, [one._replace(still=one.flow)])["still_peak"] > 0.95


def test_bad_input_is_named():
    short = batch()
    with pytest.raises(ValueError, match=r"videos of 1\.20 s and audio of 2\.04 s are shorter than 2\.0 s"):
        compute(METRIC, [short._replace(flow=short.flow[:, :29], still=short.still[:, :29])])
    with pytest.raises(ValueError, match="step <= max_lag < seconds"):
        LagCurve(25, 0.5)
    with pytest.raises(ValueError, match="no samples"):
        compute(METRIC, [])
    single = compute(METRIC, [Strengths(*(x[:1] for x in short))])
    assert np.isnan(single["shuffled_peak"]) and np.isnan(single["shuffled_lag"]) and single["peak"] > 0.9
