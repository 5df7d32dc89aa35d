"""Clicks of real waveforms are found to some milliseconds; none is found where there is none."""

import numpy as np
import pytest

from codi_jax.digit_world import DigitWorld, WorldConfig
from codi_jax.digit_world.clicks import HOP, LAG, READABLE, click_times, scores
from codi_jax.digit_world.videos import RATE

N = 96
HALF_FRAME = 0.5 / RATE


@pytest.fixture(scope="module")
def world():
    source = DigitWorld(WorldConfig("test", size=N, modalities=("audio",)))
    batch = source.read(range(N))
    return batch["audio"], (batch["factors"]["event"] + 0.5) / RATE, source.audio_without_click(range(N))


def found(waves, truth):
    return float((np.abs(click_times(waves) - truth) <= HALF_FRAME).mean())


def test_clicks_of_real_audio_are_found(world):
    waves, truth, _ = world
    assert found(waves, truth) > 0.97
    assert np.nanmean(np.abs(click_times(waves) - truth)) < 0.005
    as_int16 = np.rint(waves * 32767).astype(np.int16)
    assert found(as_int16, truth) > 0.97


def test_clicks_are_found_at_any_time(world):
    waves, truth, _ = world
    shift = 1000  # samples, of no whole frame
    np.testing.assert_allclose(
        click_times(np.roll(waves, shift, axis=1))[truth < 0.8], truth[truth < 0.8] + 0.125, atol=0.01
    )


def test_the_word_alone_rarely_has_a_click(world):
    waves, truth, without = world
    assert np.isfinite(click_times(without)).mean() < 0.1
    apart = np.abs(waves - without).argmax(1) / 8000 - truth
    assert (apart >= 0).all() and (apart < 0.01).all()  # all that it lacks is the click


def test_the_score_of_a_click_alone_is_near_one(world):
    _, _, without = world
    alone = world[0] - without
    assert scores(alone).max(1).min() > 0.8 > READABLE
    assert found(alone, world[1]) == 1


def test_noise_tones_and_silence_have_no_click():
    rng, t = np.random.default_rng(0), np.arange(8192) / 8000
    noise = 0.1 * rng.standard_normal((8, 8192))
    tones = 0.5 * np.sin(2 * np.pi * np.array([[200.0], [1000.0], [3000.0]]) * t)
    for waves in (noise, tones, np.zeros((2, 8192)), np.ones((2, 8192)), np.zeros((2, 8192), np.int16)):
        assert np.isnan(click_times(waves)).all()


def test_two_clicks_are_unread(world):
    waves, truth, without = world
    twice = waves + np.roll(waves - without, 1600, axis=1)
    assert np.isnan(click_times(twice)[truth < 0.7]).mean() > 0.5
    alone = waves - without
    assert np.isnan(click_times(alone + np.roll(alone, 2400, axis=1))).all()


def test_damaged_short_and_empty_waveforms_are_unread(world):
    waves, *_ = world
    for length in (0, 1, 3, 64, 2 * LAG * HOP - 1):
        assert np.isnan(click_times(waves[:4, :length])).all() and len(click_times(waves[:4, :length])) == 4
    assert click_times(waves[:4, : 2 * LAG * HOP]).shape == (4,)
    assert click_times(waves[:0]).shape == (0,)
    damaged = waves.copy()
    damaged[0, 100], damaged[1, 5000], damaged[2] = np.nan, np.inf, 0
    times = click_times(damaged)
    assert np.isnan(times[:3]).all()
    np.testing.assert_array_equal(times[3:], click_times(waves)[3:])
    loud = np.clip(waves * 1e6, -1, 1)
    assert click_times(loud).shape == (N,)
    with pytest.raises(ValueError, match=r"expected waveforms \[N, L\], got shape \(8192,\)"):
        click_times(waves[0])


def test_a_waveform_is_read_alike_in_any_batch(world):
    waves, *_ = world
    np.testing.assert_array_equal(click_times(waves)[70:75], click_times(waves[70:75]))
