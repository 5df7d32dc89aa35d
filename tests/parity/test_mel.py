"""The mel front ends against the reference: of the codec (case 10) and of the prompt encoder (case 13b)."""

import dataclasses

import numpy as np
import pytest

from codi_jax.media import mel
from tests.parity.golden import cases

CODEC = [
    pytest.param(case, name, seconds, id=f"{case.path.stem}-{name}")
    for case in cases("10")
    for name, seconds in case.config["time"].items()
]
PROMPT = [
    pytest.param(case, name, id=f"{case.path.stem}-{name}")
    for case in cases("13b")
    for name in sorted({key.split("/")[0] for key in case.inputs()})
]


@pytest.mark.parametrize(("case", "name", "seconds"), CODEC)
def test_codec_front_end(case, name, seconds):
    frames = int(seconds * 102.4)
    wave = mel.normalize(case.inputs(name)["wave"], frames * mel.AUDIOLDM.hop)
    magnitudes = mel.magnitudes(wave, mel.AUDIOLDM)
    outputs = {
        "inter/processed_wave": wave,
        "inter/stft_magnitude": magnitudes.swapaxes(1, 2),
        "logmel": mel.log_mel(wave, mel.AUDIOLDM, frames)[:, None],
    }
    assert f"{name}/logmel" in case.outputs(name)
    for full in case.outputs(name):
        case.check(full, outputs[full.removeprefix(f"{name}/")])


@pytest.mark.parametrize("case", cases("10"), ids=lambda c: c.path.stem)
def test_codec_filters_and_windowed_basis(case):
    case.check("mel_basis", mel.filterbank(mel.AUDIOLDM), atol=1e-5)
    n = mel.AUDIOLDM.n_fft
    angle = 2 * np.pi * np.outer(np.arange(mel.AUDIOLDM.bins), np.arange(n)) / n
    basis = np.concatenate([np.cos(angle), -np.sin(angle)]) * mel.hann(n)
    case.check("inter/forward_basis", basis[:, None], atol=1e-5)


def clap_config(fields: dict) -> mel.MelConfig:
    """Our config from the reference's fields."""
    return mel.MelConfig(
        sample_rate=fields["sample_rate"],
        n_fft=fields["window_size"],
        hop=fields["hop_size"],
        mels=fields["mel_bins"],
        fmin=float(fields["fmin"]),
        fmax=float(fields["fmax"]),
        power=2,
        decibels=True,
        floor=1e-10,
    )


@pytest.mark.parametrize(("case", "name"), PROMPT)
def test_prompt_front_end(case, name):
    fields = case.config["audio_cfg"]
    config, samples = clap_config(fields), fields["clip_samples"]
    (wave,) = case.inputs(name).values()
    resampled = mel.resample(wave[:, 0], 16000, config.sample_rate)
    filled = mel.fill(resampled, samples)
    np.testing.assert_array_equal(mel.clap_waveform(wave[:, 0], 16000, samples), filled)
    case.check(f"{name}/inter/wave48k", resampled[:, None])
    case.check(f"{name}/inter/filled48k", filled, atol=1e-5)
    case.check(f"{name}/filled_length", np.array([filled.shape[-1]]))
    decibels = mel.log_mel(filled, config)[:, None]
    case.check(f"{name}/logmel_shape", np.array(decibels.shape))
    case.check(f"{name}/logmel_frames", decibels[:, :, case.config["keep_frames"]], atol=0.05)


@pytest.mark.parametrize("case", cases("13b"), ids=lambda c: c.path.stem)
def test_prompt_filters(case):
    config = clap_config(case.config["audio_cfg"])
    case.check("mel_basis_T", mel.filterbank(config).T, atol=1e-5)
    assert dataclasses.replace(config, mels=64) == mel.CLAP
