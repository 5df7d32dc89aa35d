import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.encoders.griffin_lim import griffin_lim, istft, linear_magnitudes, stft
from codi_jax.media import mel
from codi_jax.media.mel import MelConfig

MEL = MelConfig(sample_rate=8000, n_fft=512, hop=128, mels=64, fmin=0.0, fmax=4000.0)
UNEVEN = MelConfig(sample_rate=16000, n_fft=256, hop=40, mels=24, fmin=50.0, fmax=7000.0, power=2, decibels=True)
FRAMES = 64
SECONDS = np.arange(FRAMES * MEL.hop) / MEL.sample_rate


def chirp(pitch: float) -> np.ndarray:
    """A synthetic vowel: harmonics of a changing pitch with two changing formants, faded in and out."""
    phase = 2 * np.pi * pitch * (SECONDS - 0.02 * np.cos(8 * SECONDS))
    wave = np.zeros_like(SECONDS)
    for k in range(1, 20):
        formants = [(500 + 200 * SECONDS, 120), (1500 - 300 * SECONDS, 200)]
        wave += sum(np.exp(-0.5 * ((k * pitch - hz) / width) ** 2) for hz, width in formants) * np.sin(k * phase)
    return (wave / np.abs(wave).max() * np.sin(np.pi * SECONDS / SECONDS[-1])).astype(np.float32) * 0.5


@functools.cache
def jitted(config, iterations):
    return jax.jit(lambda x: griffin_lim(x, config, iterations))


def waves(log_mel, config=MEL, iterations=32):
    return np.asarray(jitted(config, iterations)(log_mel))


@pytest.mark.parametrize("config", [MEL, UNEVEN], ids=["blocks", "uneven"])
def test_stft_equals_the_front_end_and_istft_is_its_inverse(config):
    wave = np.random.default_rng(0).normal(size=(2, 50 * config.hop)).astype(np.float32)
    spectrum = jax.jit(stft, static_argnums=1)(wave, config)
    np.testing.assert_allclose(np.abs(spectrum), mel.magnitudes(wave, config, 50), atol=1e-4)
    back = jax.jit(istft, static_argnums=1)(spectrum, config)
    np.testing.assert_allclose(back, wave, atol=1e-4)


@pytest.mark.parametrize(("hz", "least"), [(220, 0.95), (1000, 0.85), (3000, 0.5)])
def test_a_tone_keeps_its_frequency_and_most_of_its_level(hz, least):
    """Where filters are wide a tone becomes a narrow band, whose parts partly cancel."""
    wave = 0.3 * np.sin(2 * np.pi * hz * SECONDS)[None].astype(np.float32)
    out = waves(mel.log_mel(wave, MEL, FRAMES))
    magnitudes = np.abs(np.fft.rfft(out[0] * np.hanning(out.shape[1])))
    spacing = MEL.sample_rate / out.shape[1]
    # The log-mel determines the frequency of a tone only up to the width of a filter.
    bank = mel.filterbank(MEL)[:, round(hz * MEL.n_fft / MEL.sample_rate)]
    width = np.ptp(np.flatnonzero(mel.filterbank(MEL)[bank.argmax()])) * MEL.sample_rate / MEL.n_fft
    assert abs(magnitudes.argmax() * spacing - hz) < width / 4 + spacing
    assert least < out.std() / wave.std() < 1.05


def test_log_mel_of_a_chirp_survives_the_round_trip():
    log_mel = mel.log_mel(np.stack([chirp(pitch) for pitch in (100, 140, 220)]), MEL, FRAMES)

    def error(iterations):
        again = mel.log_mel(waves(log_mel, iterations=iterations), MEL, FRAMES)
        loud = log_mel > log_mel.max() - np.log(100)  # within 40 dB of the maximum
        return np.abs(again - log_mel)[loud].mean()

    assert error(32) < 0.12
    assert error(32) < 0.8 * error(4)


@pytest.mark.parametrize("changes", [{}, {"power": 2, "decibels": True, "floor": 1e-10, "fmin": 200.0}])
def test_magnitudes_converge_to_the_spectrogram(changes):
    config = dataclasses.replace(MEL, **changes)
    log_mel = mel.log_mel(chirp(140)[None], config, FRAMES)
    want = np.exp(config.unit * log_mel)

    def misfit(updates):
        magnitudes = np.asarray(jax.jit(linear_magnitudes, static_argnums=(1, 2))(log_mel, config, updates))
        assert magnitudes.min() >= 0 and not magnitudes[..., : int(config.fmin / 8000 * 512)].any()
        got = magnitudes**config.power @ mel.filterbank(config).T
        return np.linalg.norm(got - want) / np.linalg.norm(want)

    assert misfit(30) < 0.005 < misfit(10) < 0.03 < misfit(0)


def test_waves_do_not_depend_on_the_batch_and_any_front_end_works():
    log_mel = mel.log_mel(np.stack([chirp(100), chirp(220)]), MEL, FRAMES)
    out = waves(log_mel)
    assert out.shape == (2, FRAMES * MEL.hop) and out.dtype == np.float32
    np.testing.assert_array_equal(waves(log_mel), out)
    np.testing.assert_allclose(waves(log_mel[1:], iterations=4), waves(log_mel, iterations=4)[1:], atol=1e-4)
    other = waves(mel.log_mel(chirp(100)[None], UNEVEN, 30), UNEVEN, 2)
    assert other.shape == (1, 30 * UNEVEN.hop) and np.isfinite(other).all()


def test_silence_stays_silent_and_too_few_frames_raise():
    assert np.abs(waves(jnp.full((1, FRAMES, 64), np.log(MEL.floor)))).max() < 1e-3
    with pytest.raises(ValueError, match="2 frames are too few"):
        griffin_lim(jnp.zeros((1, 2, 64)), MEL)
