"""VGGish's patches: shapes, the bands of tones, silence, and waveforms that are too short."""

import numpy as np
import pytest

from codi_jax.media.vggish_mel import RATE, SAMPLES, vggish_patches


def tone(hz, seconds, rate=RATE):
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)[None]


def test_a_patch_starts_every_96_frames_and_incomplete_ones_are_left_out():
    assert SAMPLES == 15600
    counts = {15600: 1, 15600 + 15359: 1, 15600 + 15360: 2, 160000: 10}
    for samples, count in counts.items():
        assert vggish_patches(np.zeros((2, samples)), RATE).shape == (2, count, 96, 64)
    x = np.random.default_rng(0).standard_normal((1, 48000))
    np.testing.assert_array_equal(vggish_patches(x, RATE)[:, 1:], vggish_patches(x[:, 15360:], RATE))


def test_silence_is_the_offset():
    np.testing.assert_allclose(vggish_patches(np.zeros((1, 16000)), RATE), np.log(0.01), rtol=1e-6)


@pytest.mark.parametrize("hz", [300, 1000, 3000, 7000])
def test_a_tone_is_in_the_band_of_its_mel(hz):
    """Band centres are equally spaced from 185 to 3120 HTK mel, 125 to 7500 Hz."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (125, 7500))
    band = (2595 * np.log10(1 + hz / 700) - low) / (high - low) * 65 - 1
    means = vggish_patches(tone(hz, 1), RATE).mean((0, 1, 2))
    assert abs(means.argmax() - band) < 1
    assert means.max() > 4 and np.median(means) < -4


def test_a_frame_from_the_definition():
    x = np.random.default_rng(0).uniform(-1, 1, 16000)
    n, k, start = np.arange(400), np.arange(257)[:, None], 160 * 37
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    magnitudes = np.abs((np.exp(-2j * np.pi * k * n / 512) * window * x[start + n]).sum(1))
    mel = 1127 * np.log(1 + np.arange(257) * 31.25 / 700)
    low, high = 1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700)
    width = (high - low) / 65
    for band in (0, 20, 63):
        triangle = np.maximum(0, 1 - np.abs(mel - (low + (band + 1) * width)) / width)
        want = np.log(triangle @ magnitudes + 0.01)
        assert vggish_patches(x[None], RATE)[0, 0, 37, band] == pytest.approx(want, abs=1e-5)


def test_other_rates_are_resampled():
    a, b = vggish_patches(tone(1000, 2), RATE), vggish_patches(tone(1000, 2, 44100), 44100)
    assert a.shape == b.shape
    loud = a[0, 0, 40] > 0
    np.testing.assert_allclose(a[0, 0, 40, loud], b[0, 0, 40, loud], atol=0.02)


def test_bad_waveforms_are_named():
    with pytest.raises(ValueError, match=r"0\.500 s are shorter than a patch, 0\.975 s"):
        vggish_patches(np.zeros((1, 8000)), RATE)
    with pytest.raises(ValueError, match=r"waveforms \[B, T\], got shape \(16000,\)"):
        vggish_patches(np.zeros(16000), RATE)
