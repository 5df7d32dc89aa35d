"""The Fréchet audio distance is the Fréchet distance of rows, with their numbers."""

import jax
import numpy as np
import pytest

from codi_jax.encoders.vggish import VGGish, VGGishConfig
from codi_jax.media.vggish_mel import vggish_patches
from codi_jax.metrics.base import compute
from codi_jax.metrics.fad import FrechetAudioDistance, moments
from codi_jax.metrics.frechet import distance, fit

RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(size=(40, 5))


def test_every_patch_is_a_row():
    patches = RNG.normal(1.0, 2.0, size=(6, 4, 5))
    rows = patches.reshape(-1, 5)
    numbers = compute(FrechetAudioDistance(moments(REFERENCE)), [patches])
    assert numbers["n"] == 24 and numbers["reference_n"] == 40
    assert numbers["frechet_audio_distance"] == pytest.approx(distance(fit(rows), fit(REFERENCE)))
    assert compute(FrechetAudioDistance(moments(REFERENCE)), [rows[:5], rows[5:]]) == pytest.approx(numbers)


def test_by_hand():
    metric = FrechetAudioDistance(moments(np.array([[0.0], [2.0]])))  # mean 1, variance 2
    numbers = compute(metric, [np.array([[3.0], [11.0]])])  # mean 7, variance 32
    assert numbers["frechet_audio_distance"] == pytest.approx(6**2 + (np.sqrt(32) - np.sqrt(2)) ** 2)


def test_the_reference_has_distance_zero():
    metric = FrechetAudioDistance(moments(REFERENCE))
    assert compute(metric, [REFERENCE[::-1]])["frechet_audio_distance"] == pytest.approx(0, abs=1e-9)


def test_of_waveforms_by_a_network_with_random_weights():
    rng = np.random.default_rng(1)
    network = VGGish(VGGishConfig(channels=(4, 4, 8, 8), hidden=16, embedding=6))
    one, other = 0.1 * rng.standard_normal((2, 8, 32000))
    tones = 0.1 * np.sin(2 * np.pi * rng.uniform(200, 2000, (8, 1)) * np.arange(32000) / 16000)
    params = network.init(jax.random.key(0), vggish_patches(one, 16000))
    real, fake, wrong = (np.asarray(network.apply(params, vggish_patches(x, 16000))) for x in (one, other, tones))
    near, far = (compute(FrechetAudioDistance(moments(real.reshape(-1, 6))), [x]) for x in (fake, wrong))
    assert near["n"] == 16
    assert far["frechet_audio_distance"] > 5 * near["frechet_audio_distance"] > 0


def test_bad_embeddings_are_named():
    metric = FrechetAudioDistance(moments(REFERENCE))
    with pytest.raises(ValueError, match="embeddings of 4 features, but 5 in the reference"):
        compute(metric, [np.zeros((3, 4))])
    with pytest.raises(ValueError, match=r"\[n, F\] or \[B, P, F\] with at least one row, got shape \(5,\)"):
        compute(metric, [np.zeros(5)])
    with pytest.raises(ValueError, match="not finite"):
        compute(metric, [np.full((3, 5), np.nan)])
    with pytest.raises(ValueError, match="n >= 2, got n = 1"):
        compute(metric, [np.zeros((1, 5))])
