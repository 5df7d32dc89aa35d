"""The audio modality: waves on the host, spectrograms on the device, and waves again."""

import base64
import io
import re
import wave

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.digit_world import DigitWorld, WorldConfig
from tests import toy

NAMES = ("text", "audio")
RATE = 8000


@pytest.fixture(scope="module")
def audio():
    return toy.codi(*NAMES)["audio"]


@pytest.fixture(scope="module")
def batch():
    return DigitWorld(WorldConfig(size=3, modalities=NAMES)).read(range(3))


def tone(hertz, samples=8192):
    return np.round(12000 * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)).astype(np.int16)


def test_media_is_the_normalised_spectrogram(audio, batch):
    media = audio.prepare(batch)
    assert media.shape == (3, 64, 64, 1) and media.dtype == np.float32
    assert -3 < media.min() < media.max() < 3  # shift and scale give it about unit size
    values = audio.raw_from_batch(batch)
    assert [(v.shape, v.dtype) for v in values] == [((8192,), np.dtype("int16"))] * 3
    # The spectrogram of int16 waves differs from that of floats by rounding, mostly in the quiet parts.
    assert np.abs(audio.preprocess(values) - media).mean() < 0.02
    assert jax.tree.map(jnp.shape, audio.example(3)) == media.shape


def test_higher_tones_have_higher_mel_bins(audio):
    rows = [audio.preprocess([tone(hertz)])[0, 8:-8, :, 0].mean(0).argmax() for hertz in (200, 500, 1000, 2000, 3500)]
    assert rows == sorted(set(rows))


def test_empty_media_is_silence(audio):
    empty = np.asarray(audio.empty(2))
    np.testing.assert_allclose(empty, (np.log(1e-5) + 4.0) * 0.4, rtol=1e-5)
    np.testing.assert_array_equal(empty, audio.preprocess([np.zeros(8192, np.int16)] * 2))


def test_postprocess_clips_to_int16(audio):
    (got,) = audio.postprocess(np.array([[0.0, 0.5, 1.0, 3.0, -1.0, -3.0, 1e-9]]))
    assert got.dtype == np.int16 and got.tolist() == [0, 16384, 32767, 32767, -32768, -32768, 0]


def test_decoding_gives_waves_of_the_right_length(audio):
    variables = toy.variables(toy.codi(*NAMES))
    z = jax.random.normal(jax.random.key(0), (2, *audio.latent_shape))
    waves = toy.quick(audio.decode_latent)(variables, z)
    assert waves.shape == (2, audio.samples) == (2, 8192) and np.isfinite(waves).all()
    first = toy.quick(audio.decode_latent)(variables, z[:1])
    np.testing.assert_allclose(first[0], waves[0], atol=1e-4)  # independent of the batch


def test_decode_inverts_preprocess_with_an_identity_codec(audio, monkeypatch):
    tree = toy.model(NAMES)
    tree["modalities"]["audio"]["iterations"] = 32
    modality = CoDi.from_config(tree)["audio"]
    monkeypatch.setattr(modality, "_decode_mel", lambda params, latent: latent)
    waves = [tone(700), tone(1500)]
    media = modality.preprocess(waves)
    again = modality.preprocess(modality.postprocess(jax.jit(lambda mel: modality.decode({}, mel))(media)))
    assert np.abs(again - media).mean() < 0.5 * np.abs(media - media[::-1]).mean()
    np.testing.assert_array_equal(again[:, 8:-8].mean(1).argmax(1), media[:, 8:-8].mean(1).argmax(1))


def test_an_audio_file_round_trip(audio, tmp_path):
    value, path = tone(440), tmp_path / "x.wav"
    audio.write(value, path)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (1, 2, RATE, 8192)
    assert np.abs(audio.raw_from_user(str(path)).astype(int) - value).max() <= 1
    audio.write(tone(440, 4000), path)
    short = audio.raw_from_user(str(path))
    assert short.shape == (8192,) and not short[4000:].any()
    audio.write(tone(440, 20_000), path)
    assert np.abs(audio.raw_from_user(str(path)).astype(int) - tone(440, 20_000)[:8192]).max() <= 1
    with pytest.raises(ConfigError, match="no such audio file"):
        audio.raw_from_user(str(tmp_path / "absent.wav"))


def test_html_is_a_player_with_the_wave_inside(audio):
    value = tone(440)
    html = audio.html(value)
    assert html.startswith('<audio class="audio" controls') and html.endswith("</audio>")
    data = base64.b64decode(re.search(r'src="data:audio/wav;base64,([^"]+)"', html)[1])
    with wave.open(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(np.frombuffer(file.readframes(8192), "<i2"), value)


def test_sizes_that_do_not_fit_raise():
    tree = toy.model(NAMES)
    tree["modalities"]["audio"]["frames"] = 40
    with pytest.raises(ConfigError, match=r"audio: frames and mels \(40, 64\) are not multiples of 32"):
        CoDi.from_config(tree)
    tree = toy.model(NAMES)
    tree["modalities"]["audio"]["mel"]["fmax"] = 5000.0
    with pytest.raises(ConfigError, match="not a band below 8000 / 2 Hz"):
        CoDi.from_config(tree)
