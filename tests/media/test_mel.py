import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from codi_jax.config import ConfigError, from_dict
from codi_jax.media import mel
from codi_jax.media.mel import MelConfig

SMALL = MelConfig(sample_rate=8000, n_fft=512, hop=128, mels=64, fmin=0.0, fmax=4000.0)


def tone(hz, rate=8000, samples=8192):
    return np.sin(2 * np.pi * hz * np.arange(samples) / rate, dtype=np.float64)[None].astype(np.float32)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).normal(size=(3, 8192)).astype(np.float32)


def test_mel_scale():
    hz = np.array([0.0, 200.0, 1000.0, 6400.0])
    np.testing.assert_allclose(mel.hz_to_mel(hz), [0, 3, 15, 42])
    np.testing.assert_allclose(mel.mel_to_hz(mel.hz_to_mel(hz)), hz)


def test_filters_are_triangles_of_area_one():
    fine = dataclasses.replace(SMALL, n_fft=8192, hop=2048)
    bank = mel.filterbank(fine)
    np.testing.assert_allclose(bank.sum(1) * 8000 / 8192, 1, rtol=2e-3)
    assert mel.filterbank(fine) is bank  # cached, and therefore read-only:
    with pytest.raises(ValueError, match="read-only"):
        bank[0, 0] = 1


def test_a_frame_is_the_spectrum_of_the_window_around_its_centre(noise):
    got = mel.magnitudes(noise, SMALL)
    assert got.shape == (3, 65, 257)
    around = noise[1, 128 * 9 - 256 : 128 * 9 + 256].astype(np.float64)
    want = np.abs(np.fft.fft(around * np.hanning(513)[:-1]))[:257]
    np.testing.assert_allclose(got[1, 9], want, atol=2e-5)
    mirrored = np.concatenate([noise[2, 256:0:-1], noise[2, :256]]).astype(np.float64)
    np.testing.assert_allclose(got[2, 0], np.abs(np.fft.fft(mirrored * np.hanning(513)[:-1]))[:257], atol=2e-5)
    np.testing.assert_array_equal(mel.magnitudes(noise, SMALL, 64), got[:, :64])


def test_log_mel_of_a_tone_and_of_silence():
    centre = mel.mel_to_hz(np.linspace(0, mel.hz_to_mel(4000.0), 66))[41]
    loud, quiet = mel.log_mel(tone(centre), SMALL, 64), mel.log_mel(0.1 * tone(centre), SMALL, 64)
    assert loud.dtype == np.float32 and loud.shape == (1, 64, 64)
    assert (loud.argmax(-1) == 40).all()
    np.testing.assert_allclose((loud - quiet)[..., 40], np.log(10), atol=1e-4)
    decibels = dataclasses.replace(SMALL, power=2, decibels=True, floor=1e-10)
    np.testing.assert_allclose(
        (mel.log_mel(tone(centre), decibels) - mel.log_mel(0.1 * tone(centre), decibels))[..., 40], 20, atol=1e-3
    )
    np.testing.assert_allclose(mel.log_mel(np.zeros((1, 8192)), SMALL), np.log(1e-5), rtol=1e-6)
    np.testing.assert_allclose(mel.log_mel(np.zeros((1, 8192)), decibels), -100, rtol=1e-6)


def test_a_waveform_does_not_depend_on_its_batch(noise):
    np.testing.assert_allclose(mel.log_mel(noise, SMALL)[1:2], mel.log_mel(noise[1:2], SMALL), atol=1e-5)


def test_normalize(noise):
    out = mel.normalize(5 + 7 * noise, 9000)
    assert out.shape == (3, 9000) and not out[:, 8192:].any()
    np.testing.assert_allclose(np.abs(out).max(-1), 0.5, atol=1e-6)
    np.testing.assert_allclose(out[:, :8192].mean(-1), 0, atol=1e-6)
    np.testing.assert_array_equal(mel.normalize(5 + 7 * noise, 4000), out[:, :4000])
    assert not mel.normalize(np.zeros((1, 200)), 300).any()


@pytest.mark.parametrize(("old", "new"), [(16000, 48000), (44100, 16000), (8000, 16000), (48000, 8000)])
def test_resampling_keeps_a_tone(old, new):
    out = mel.resample(tone(1000, old, old // 4), old, new)
    assert out.shape == (1, new // 4) and out.dtype == np.float32
    np.testing.assert_allclose(out[:, 200:-200], tone(1000, new, new // 4)[:, 200:-200], atol=5e-3)


def test_resampling_removes_frequencies_above_the_new_nyquist_frequency():
    assert np.abs(mel.resample(tone(7000, 16000), 16000, 8000)[:, 100:-100]).max() < 0.01
    wave = tone(440)
    np.testing.assert_array_equal(mel.resample(wave, 8000, 8000), wave)


def test_fill():
    short, long = np.arange(6.0).reshape(2, 3), np.tile(np.arange(1000), (8, 1))
    np.testing.assert_array_equal(mel.fill(short, 8), [[0, 1, 2, 0, 1, 2, 0, 0], [3, 4, 5, 3, 4, 5, 0, 0]])
    np.testing.assert_array_equal(mel.fill(short, 3), short)
    cut = mel.fill(long, 100, seed=3)
    np.testing.assert_array_equal(cut - cut[:, :1], long[:, :100])
    assert len(set(cut[:, 0])) > 4
    np.testing.assert_array_equal(mel.fill(long, 100, seed=3), cut)
    assert (mel.fill(long, 100, seed=4) != cut).any()


def test_bad_arguments(noise):
    assert from_dict(MelConfig, ConfigDict(dataclasses.asdict(SMALL))) == SMALL
    with pytest.raises(ValueError, match="256 samples is too short"):
        mel.log_mel(noise[:, :256], SMALL)
    with pytest.raises(ValueError, match="66 frames of a waveform that has 65"):
        mel.log_mel(noise, SMALL, 66)
    with pytest.raises(ValueError, match="100 samples is too short"):
        mel.normalize(noise[:, :100], 200)
    for wrong, match in (({"fmax": 4001.0}, "not a band"), ({"hop": 257}, "half"), ({"power": 3}, "power 3")):
        with pytest.raises(ConfigError, match=match):
            dataclasses.replace(SMALL, **wrong)
