"""WAV and FLAC by libsndfile: the samples that FFmpeg decodes, and FFmpeg where libsndfile does not read."""

import io

import numpy as np
import pytest
import soundfile

from codi_jax.media import files, pcm
from codi_jax.media.files import MediaError, MediaFile

KINDS = [("WAV", sub) for sub in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")]
KINDS += [("WAVEX", "PCM_16"), ("RF64", "PCM_24"), ("FLAC", "PCM_S8"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")]
OTHERS = [("WAV", "ULAW"), ("WAV", "MS_ADPCM"), ("AIFF", "PCM_16"), ("OGG", "VORBIS")]


def encoded(container, subtype, channels=2, rate=44_100, seconds=2):
    out = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (rate * seconds, channels))
    soundfile.write(out, samples, rate, format=container, subtype=subtype)
    return out.getvalue()


def read_both(monkeypatch, file, samples=16_000, rate=16_000):
    """What is read with libsndfile and by FFmpeg alone."""
    first = files.read_audio(file, samples, rate)
    with monkeypatch.context() as patch:
        patch.setattr(pcm, "_AVAILABLE", False)
        return first, files.read_audio(file, samples, rate)


def is_read(data):
    return pcm.read_pcm(io.BytesIO(data), 0.0, lambda rate: rate) is not None


@pytest.mark.parametrize(("container", "subtype"), KINDS)
def test_samples_are_those_of_ffmpeg(monkeypatch, container, subtype):
    for channels, rate, start, duration in ((1, 16_000, 0.0, None), (2, 44_100, 0.4321, 0.5), (8, 8000, 1.5, None)):
        data = encoded(container, subtype, channels, rate)
        assert is_read(data)
        np.testing.assert_array_equal(*read_both(monkeypatch, MediaFile("x", data, start, duration)))


@pytest.mark.parametrize(("container", "subtype"), OTHERS)
def test_other_kinds_are_left_to_ffmpeg(monkeypatch, container, subtype):
    data = encoded(container, subtype)
    assert not is_read(data)
    np.testing.assert_array_equal(*read_both(monkeypatch, MediaFile("x", data)))


def test_a_file_on_disk_is_read_as_its_bytes_are(tmp_path):
    data = encoded("FLAC", "PCM_16")
    (tmp_path / "x.flac").write_bytes(data)
    np.testing.assert_array_equal(
        files.read_audio(tmp_path / "x.flac", 9000, 16_000), files.read_audio(MediaFile("x", data), 9000, 16_000)
    )


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
def test_a_cut_flac_is_left_to_ffmpeg(share):
    data = encoded("FLAC", "PCM_16")
    assert not is_read(data[: int(share * len(data))])


def test_a_part_after_the_end_is_empty():
    with pytest.raises(MediaError, match="no samples after second 7"):
        files.read_audio(MediaFile("x", encoded("WAV", "PCM_16"), 7.0), 100, 8000)


def test_the_memory_of_many_channels_is_bounded(monkeypatch):
    data = bytearray(encoded("WAV", "PCM_U8", 1, 768_000, 1))
    data[22:24] = (1024).to_bytes(2, "little")
    assert pcm.read_pcm(io.BytesIO(bytes(data)), 0.0, lambda rate: 1 << 40) is not None  # 750 samples
    monkeypatch.setattr(pcm, "_MAX_VALUES", 700 * 1024)
    assert not is_read(bytes(data))
