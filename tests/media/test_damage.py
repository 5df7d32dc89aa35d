"""Damaged files give a sample or a MediaError of one line, whatever the libraries raise; odd ones are read."""

import io
import random
import wave

import numpy as np
import pytest
from PIL import Image

from codi_jax.media import files
from codi_jax.media.files import MediaError, MediaFile
from codi_jax.media.image_files import read_image
from codi_jax.media.metadata import probe

IMAGES = (
    "avif",
    "png",
    "jpeg",
    "webp",
    "gif",
    "tiff",
    "bmp",
    "ppm",
    "tga",
    "ico",
    "jpeg2000",
    "pcx",
    "dds",
    "sgi",
    "qoi",
)


def sound(channels=1, width=2, rate=8000, samples=2000):
    """Channel c of C is a constant, (c + 1) / C of half the full scale."""
    constants = (np.arange(1, channels + 1) * 2 ** (8 * width - 2) // channels).astype("<i4")
    raw = np.tile(constants, (samples, 1)).astype("<i4").view(np.uint8).reshape(samples, channels, 4)[..., :width]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(raw.tobytes())
    return file.getvalue()


def mutants(data, count, header):
    rng = random.Random(0)
    for n in range(count):
        mutant = bytearray(data)
        for _ in range(rng.randint(1, 12)):
            mutant[rng.randrange(len(data) if n % 2 else min(header, len(data)))] = rng.randrange(256)
        yield bytes(mutant[: rng.randrange(len(mutant))] if n % 7 == 0 else mutant)


def refused(read, data):
    """Whether a file is refused, by one line."""
    try:
        read(MediaFile("x", data))
    except MediaError as error:
        assert "\n" not in str(error)
        return True
    return False


@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_images(kind):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)).save(file, kind)
    assert not refused(read_image, file.getvalue())
    assert any(refused(read_image, data) for data in mutants(file.getvalue(), 150, 200))
    for data in mutants(file.getvalue(), 20, 200):
        refused(probe, data)


@pytest.mark.parametrize("width", [2, 3, 4])
def test_damaged_wav_headers(width):
    data = sound(channels=2, width=width)
    assert any(refused(lambda file: files.read_audio(file, 8000, 8000), data) for data in mutants(data, 400, 46))
    for mutant in mutants(data, 100, 46):
        refused(probe, mutant)


@pytest.mark.parametrize("channels", [1, 2, 6, 8, 9, 64])
def test_sound_of_any_number_of_channels_is_their_mean(channels):
    got = files.read_audio(MediaFile("x", sound(channels)), 1000, 8000)
    np.testing.assert_allclose(got, np.full(1000, 0.5 * (channels + 1) / (2 * channels)), atol=2e-4)


def test_sound_that_is_shorter_than_a_sample():
    got = files.read_audio(MediaFile("x", sound(rate=700_000, samples=3)), 100, 8000)
    assert got.shape == (100,) and np.abs(got).max() <= 1
