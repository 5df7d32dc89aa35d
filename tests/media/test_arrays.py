"""Sound, video and pixels that are arrays already."""

import numpy as np
import pytest

from codi_jax.media import files
from codi_jax.media.arrays import Frames, picture, read_waveform
from codi_jax.media.audio import Audio
from codi_jax.media.files import MediaError


def tone(rate, seconds=1.0):
    return 0.5 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize(
    "dtype, scale", [("i1", 2**7), ("i2", 2**15), ("i4", 2**31), ("i8", 2**15), ("f4", 1), ("f8", 1)]
)
def test_a_waveform_of_any_type_is_that_of_the_file(tmp_path, dtype, scale):
    wave = tone(8000)
    files.write_wav(tmp_path / "x.wav", files.to_int16(wave), 8000)
    got = read_waveform(Audio((wave * scale).astype(dtype), 8000), 12_000, 16_000)
    want = files.read_audio(tmp_path / "x.wav", 12_000, 16_000)
    np.testing.assert_allclose(got, want, atol=1e-2 if dtype == "i1" else 1e-4)


def test_channels_are_averaged_and_the_rest_is_zeros():
    got = read_waveform(Audio(np.array([[0.2, 0.4]] * 100), 8000), 150, 8000)
    np.testing.assert_allclose(got, [0.3] * 100 + [0.0] * 50, atol=1e-6)


def test_frames_are_those_shown_at_their_times():
    pixels = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 20, 30, 3), np.uint8)
    got = Frames(pixels, 25.0).read(6, 10.0, 8)
    assert got.shape == (6, 8, 8, 3) and got[:, 4, 4, 0].tolist() == [0, 2, 5, 7, 9, 9]
    assert Frames(pixels[..., :1], 8.0).read(2, 8.0, 8)[1].tolist() == np.ones((8, 8, 3), int).tolist()


@pytest.mark.parametrize(
    "read, reason",
    [
        (lambda: read_waveform(Audio(np.zeros(0), 8000), 10, 8000), "empty"),
        (lambda: read_waveform(Audio(np.zeros((2, 2, 2)), 8000), 10, 8000), "value"),
        (lambda: read_waveform(Audio(np.zeros(10), 0), 10, 8000), "value"),
        (lambda: read_waveform(Audio(np.array(["a"]), 8000), 10, 8000), "value"),
        (lambda: read_waveform(Audio(np.full(10, np.nan), 8000), 10, 8000), "numbers"),
        (lambda: Frames(np.zeros((0, 8, 8, 3), np.uint8), 8.0).read(2, 8.0, 8), "empty"),
        (lambda: Frames(np.zeros((2, 8, 8, 3), np.float32), 8.0).read(2, 8.0, 8), "value"),
        (lambda: picture(np.zeros((8, 8, 5), np.uint8)), "value"),
        (lambda: picture(np.zeros((8, 8), np.uint8)), "value"),
    ],
)
def test_arrays_that_cannot_be_used(read, reason):
    with pytest.raises(MediaError) as error:
        read()
    assert error.value.reason == reason
