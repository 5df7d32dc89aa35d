import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from codi_jax.digit_world.audio import DRAWS, LENGTH, synthesize
from codi_jax.digit_world.draws import choose, uniform
from codi_jax.digit_world.make_speech import pitch_of
from codi_jax.digit_world.speech import RATE, SPLITS, speech, utterance_index

DIGEST = """
import hashlib, numpy as np
from codi_jax.digit_world.draws import uniform
from codi_jax.digit_world.audio import DRAWS, synthesize
n = np.arange(20)
print(hashlib.sha256(synthesize("test", n % 10, n % 2, n % 4, n / 20, uniform("5", DRAWS, n)).tobytes()).hexdigest())
"""


def batch(split="test", n=200, seed="0"):
    index = np.arange(n)
    u = uniform(seed, ("digit", "voice", "motion", "click"), index)
    factors = {"digit": choose(u["digit"], 10), "voice": choose(u["voice"], 2), "motion": choose(u["motion"], 4)}
    factors["click"] = 0.15 + 0.7 * u["click"]
    return factors, uniform(seed, DRAWS, index)


def synthesize_batch(split, factors, draws):
    return synthesize(split, **factors, draws=draws)


def medians(n=1, **changes):
    return {name: np.full(n, 0.5) for name in DRAWS} | changes


def spectra(waves, size=512, hop=128):
    frames = np.lib.stride_tricks.sliding_window_view(waves, size, axis=-1)[:, ::hop] * np.hanning(size)
    return np.abs(np.fft.rfft(frames)) ** 2


def motion_of(waves):
    """The motion, 0 to 3, by whether the loudest frequency is above 1 kHz in the first and in the last tenth."""
    power = spectra(waves)
    ends = [power[:, at].mean(1)[:, 20:].argmax(1) + 20 for at in (slice(0, 5), slice(-5, None))]
    starts_high, ends_high = (k * RATE / 512 > 1000 for k in ends)
    return np.select([~starts_high & ~ends_high, starts_high & ends_high, ~starts_high & ends_high], [0, 1, 2], 3)


@pytest.mark.parametrize("split", SPLITS)
def test_waveforms_stay_in_range(split):
    waves = synthesize_batch(split, *batch(n=100))
    assert waves.shape == (100, LENGTH) and waves.dtype == np.float32
    peaks = np.abs(waves).max(1)
    assert peaks.max() <= 1 and peaks.min() > 0.33
    assert peaks.max() / peaks.min() > 1.7  # loudness varies


def test_a_sample_is_the_same_in_any_batch():
    factors, draws = batch()
    together = synthesize_batch("train", factors, draws)
    order = np.random.default_rng(0).permutation(200)[:77]
    some = synthesize_batch("train", {k: v[order] for k, v in factors.items()}, {k: v[order] for k, v in draws.items()})
    np.testing.assert_array_equal(some, together[order])
    for i in (0, 63, 199):
        alone = {k: v[i : i + 1] for k, v in factors.items()}, {k: v[i : i + 1] for k, v in draws.items()}
        np.testing.assert_array_equal(synthesize_batch("train", *alone)[0], together[i])


def test_a_sample_is_the_same_in_any_process():
    n = np.arange(20)
    local = hashlib.sha256(
        synthesize("test", n % 10, n % 2, n % 4, n / 20, uniform("5", DRAWS, n)).tobytes()
    ).hexdigest()
    env = os.environ | {"PYTHONHASHSEED": "77"}
    out = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True, env=env)
    assert out.stdout.strip() == local


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_motion_is_audible(split):
    factors, draws = batch()
    assert (motion_of(synthesize_batch(split, factors, draws)) == factors["motion"]).mean() > 0.97


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_voice_is_audible(split):
    factors, draws = batch()
    pitch = np.array([pitch_of(wave) for wave in synthesize_batch(split, factors, draws)])
    assert ((pitch > 150) == factors["voice"]).mean() > 0.95


def rms(x):
    return np.sqrt((x**2).mean(-1))


def test_the_tone_is_31_dB_below_the_word():
    digit, voice, draws = np.arange(20) % 10, np.arange(20) // 10, medians(20)
    left, right = (synthesize("val", digit, voice, np.full(20, motion), np.full(20, 0.5), draws) for motion in (0, 1))
    word = utterance_index("val", digit, voice, draws["utterance"])
    level = speech().level[word] * np.sqrt(0.36 * 0.72)  # the median loudness
    tone = rms(left - right) / np.sqrt(2)  # two uncorrelated tones
    np.testing.assert_allclose(20 * np.log10(tone / level), -31, atol=0.3)


def test_the_noise_floor_is_60_dB_below_full_scale():
    one, other = (synthesize("val", *np.zeros((4, 1), int), medians(floor=np.array([u]))) for u in (0.1, 0.6))
    assert abs(20 * np.log10(rms(one - other) / np.sqrt(2)) + 60) < 0.3
    assert rms(one[:, :16]).min() > 1e-4  # no silence


def test_the_onset_shifts_the_word_around_the_centre():
    onset = np.array([0.0, 0.5, 1 - 2.0**-53])
    waves = synthesize("val", *np.zeros((3, 3), int), np.full(3, 0.9), medians(3, onset=onset))
    first = np.argmax(np.abs(waves) > 0.1, axis=1)
    np.testing.assert_array_equal(np.diff(first), [640, 640])


def test_the_click_is_at_its_time_and_white_on_average():
    times = np.linspace(0.1, 0.9, 20)
    zeros = np.zeros(20, int)
    draws = medians(20, click=np.arange(20) / 20)
    early, late = (synthesize("val", zeros, zeros, zeros, t, draws) for t in (times, np.full(20, 1.0)))
    for i in range(20):  # without the end, which has the other waveform's click
        difference = (early - late)[i, :7900]
        at = np.flatnonzero(np.abs(difference) > 1e-4)
        assert at.min() == round(times[i] * RATE) and at.max() < at.min() + RATE // 100
        assert abs(np.abs(difference).max() - 0.25) < 1e-3
    power = np.mean([np.abs(np.fft.rfft((early - late)[i, :7900])) ** 2 for i in range(20)], axis=0)
    bands = power[1:3951].reshape(10, -1).mean(1)
    assert bands.max() / bands.min() < 4  # 6 dB


@pytest.mark.parametrize("name", DRAWS)
def test_every_random_variable_has_an_effect(name):
    one = synthesize("train", *np.ones((3, 1), int), np.array([0.5]), medians())
    other = synthesize("train", *np.ones((3, 1), int), np.array([0.5]), medians(**{name: np.array([0.1])}))
    assert np.abs(one - other).max() > 1e-4


def test_a_batch_is_synthesized_quickly():
    factors, draws = batch(n=128)
    synthesize_batch("train", factors, draws)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        synthesize_batch("train", factors, draws)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.25  # about 0.03 s when the machine is idle
