"""Onsets of clicks at known times, and the picking of peaks by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.onsets import ONSET_RATE, onset_strength, onset_times


def clicks(times, rate=16000, seconds=2.0, floor=1e-3):
    rng = np.random.default_rng(0)
    wave = floor * rng.standard_normal(int(seconds * rate))
    for time in times:
        start = int(time * rate)
        wave[start : start + rate // 100] += 0.3 * rng.standard_normal(rate // 100)
    return wave


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_clicks_are_found_within_a_frame(rate):
    times = np.array([0.4, 0.9, 1.55])
    found = onset_times(onset_strength(clicks(times, rate)[None], rate)[0])
    apart = np.abs(found[:, None] - times)
    assert (apart.min(0) < 1.5 / ONSET_RATE).all()


def test_silence_has_no_onsets():
    strength = onset_strength(np.zeros((2, 16000)), 16000)
    assert strength.shape == (2, 44) and not strength.any()
    assert len(onset_times(strength[0])) == 0
    assert len(onset_times(np.full(20, 3.0))) == 0


def test_the_strength_does_not_depend_on_loudness_or_type():
    wave = 0.9 * clicks([0.5])[None] / np.abs(clicks([0.5])).max()
    integers = np.rint(wave * 2**15).astype(np.int16)
    strength = onset_strength(wave, 16000)
    np.testing.assert_allclose(onset_strength(wave / 2, 16000), strength, atol=1e-3)
    np.testing.assert_allclose(onset_strength(integers, 16000), strength, atol=0.05)


def test_peaks_by_hand():
    """Frames 3 and 4 rise both, and the first of them takes the onset; 10 is too low; 16 is an onset."""
    x = np.zeros(20)
    x[[3, 4, 10, 16]] = 0.8, 1.0, 0.075, 0.5
    # Frame 10 is above its mean over 9 frames, 0.075 / 9, by less than 0.07.
    np.testing.assert_allclose(onset_times(x), np.array([3, 16]) / ONSET_RATE)
    x[10] = 0.085
    np.testing.assert_allclose(onset_times(x), np.array([3, 10, 16]) / ONSET_RATE)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 9))
def test_onsets_do_not_depend_on_scale_and_offset_and_are_apart(values, scale, offset):
    x = np.array(values, float) ** 2
    found = onset_times(x)
    frames = np.rint(found * ONSET_RATE)
    assert (np.diff(frames) >= 2).all()
    again = onset_times(x * 2.0**scale + 0)
    np.testing.assert_array_equal(found, again)
    assert len(onset_times(np.concatenate([x * 0, x + offset]))) >= (1 if offset and len(x) > 5 else 0)


def test_bad_waveforms_are_named():
    with pytest.raises(ValueError, match=r"waveforms \[N, L\] of at least one sample, got shape \(16000,\)"):
        onset_strength(np.zeros(16000), 16000)
    with pytest.raises(ValueError, match="not finite"):
        onset_strength(np.full((1, 16000), np.nan), 16000)
    with pytest.raises(ValueError, match=r"of one waveform, \[F\], got shape \(1, 5\)"):
        onset_times(np.zeros((1, 5)))
