"""Synchrony from raw arrays of digit_world, whose videos bounce while their audio clicks."""

import numpy as np
import pytest

from codi_jax.digit_world.world import DigitWorld, WorldConfig
from codi_jax.metrics.av_align import AVAlign
from codi_jax.metrics.base import compute
from codi_jax.metrics.lag_curve import LagCurve
from codi_jax.metrics.synchrony import strengths

N, FRAME_RATE, RATE = 48, 8, 8000


@pytest.fixture(scope="module")
def samples():
    return DigitWorld(WorldConfig(split="val", size=N, modalities=("audio", "video"))).read(range(N))


@pytest.fixture(scope="module")
def real(samples):
    return strengths(samples["video"], FRAME_RATE, samples["audio"], RATE)


def test_motion_is_largest_in_the_bounce(samples, real):
    event = samples["factors"]["event"]
    assert real.flow.shape == (N, 7) and real.onset.shape == (N, 45)
    largest = real.flow.argmax(1)
    assert ((largest == event - 1) | (largest == event)).mean() > 0.9  # into and out of the top
    assert not real.still.any()


def test_real_pairs_are_above_shuffled_ones_and_still_videos(real):
    numbers = compute(AVAlign(FRAME_RATE), [real])
    assert numbers["n"] == N
    assert numbers["av_align"] - 2 * numbers["standard_error"] > numbers["shuffled"] > numbers["still"] == 0
    lag = compute(LagCurve(FRAME_RATE, 1.0), [real])
    assert lag["peak"] > lag["shuffled_peak"] + 0.1
    assert abs(lag["lag"]) <= 0.5 / FRAME_RATE
    assert lag["still_peak"] == 0


def test_pairs_of_different_samples_are_at_their_control(real):
    wrong = real._replace(onset=np.roll(real.onset, 7, axis=0))
    numbers = compute(AVAlign(FRAME_RATE), [wrong])
    assert abs(numbers["av_align"] - numbers["shuffled"]) < 3 * numbers["standard_error"]
    lag = compute(LagCurve(FRAME_RATE, 1.0), [wrong])
    assert abs(lag["peak"] - lag["shuffled_peak"]) < 0.1


def test_a_delay_of_the_audio_is_the_lag(samples, real):
    late = np.roll(samples["audio"], 1600, axis=1)
    numbers = compute(LagCurve(FRAME_RATE, 1.0), [strengths(samples["video"], FRAME_RATE, late, RATE)])
    assert numbers["lag"] - compute(LagCurve(FRAME_RATE, 1.0), [real])["lag"] == pytest.approx(0.2, abs=0.05)


def test_what_does_not_belong_together_is_named():
    videos = np.zeros((2, 8, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="as many waveforms as videos, got 3 and 2"):
        strengths(videos, 8, np.zeros((3, 8000)), 8000)
    with pytest.raises(ValueError, match=r"videos of 1\.00 s with audio of 2\.00 s"):
        strengths(videos, 8, np.zeros((2, 16000)), 8000)
