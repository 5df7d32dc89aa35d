"""Onsets against librosa, and the divergences of a tagger's classes against PyTorch's kl_div."""
# ruff: noqa: E402 (what needs torch or librosa is imported once it is known to be there)

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from codi_jax.metrics.onsets import MEL, ONSET_RATE, onset_strength, onset_times
from codi_jax.metrics.tagger_kl import divergences


@pytest.mark.parametrize("seed", range(4))
def test_onsets_are_those_of_librosa(seed):
    librosa = pytest.importorskip("librosa")
    rng = np.random.default_rng(seed)
    wave = 0.01 * rng.standard_normal(int(rng.integers(20_000, 60_000)))
    for start in rng.integers(0, len(wave) - 2000, 6):
        wave[start : start + 800] += rng.uniform(0.05, 0.5) * rng.standard_normal(800) * np.exp(-np.arange(800) / 200)
    wave = wave.astype(np.float32)
    want = librosa.onset.onset_strength(y=wave, sr=MEL.sample_rate)
    got = onset_strength(wave[None], MEL.sample_rate)[0]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    frames = librosa.onset.onset_detect(onset_envelope=want, sr=MEL.sample_rate)
    assert len(frames) >= 4
    np.testing.assert_array_equal(np.rint(onset_times(got) * ONSET_RATE), frames)


def test_divergences_are_those_of_audioldm_eval():
    """Its formulas, `calculate_kl` of haoheliu/audioldm_eval: KL(target ‖ prediction + 1e-6), summed over classes."""
    real, generated = 3 * np.random.default_rng(0).standard_normal((2, 8, 527))
    target, prediction = torch.from_numpy(real), torch.from_numpy(generated)
    for form, probabilities in (("softmax", lambda x: x.softmax(1)), ("sigmoid", torch.sigmoid)):
        want = torch.nn.functional.kl_div(
            (probabilities(prediction) + 1e-6).log(), probabilities(target), reduction="none"
        ).sum(1)
        np.testing.assert_allclose(divergences(real, generated, form), want.numpy(), rtol=1e-9)
