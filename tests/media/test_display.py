"""Frames are turned, mirrored and stretched as their file says; FFmpeg's program turns these files alike."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from codi_jax.media import files

T = Image.Transpose
TURNS = {
    "clockwise": ((0, 1, -1, 0), T.ROTATE_270),
    "half": ((-1, 0, 0, -1), T.ROTATE_180),
    "counter-clockwise": ((0, -1, 1, 0), T.ROTATE_90),
    "mirrored": ((-1, 0, 0, 1), T.FLIP_LEFT_RIGHT),
    "upside down": ((1, 0, 0, -1), T.FLIP_TOP_BOTTOM),
    "transposed": ((0, 1, 1, 0), T.TRANSPOSE),
    "transposed and turned": ((0, -1, -1, 0), T.TRANSVERSE),
}


def picture(width=64, height=64) -> Image.Image:
    """Four quarters of different colours."""
    quarters = np.array([[(220, 40, 40), (40, 220, 40)], [(40, 40, 220), (200, 200, 40)]], np.uint8)
    return Image.fromarray(quarters).resize((width, height), Image.Resampling.NEAREST)


def write(path, image, matrix=None, aspect=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = *image.size, "yuv444p"
        stream.options = {"crf": "5"}
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix:
            a, b, c, d = (x << 16 for x in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))
    return path


def read(path, size=64):
    got = files.read_video(path, 3, 8.0, size)
    assert (got[0] == got[-1]).mean() > 0.9
    return got[0].astype(int)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("turn", TURNS)
def test_frames_are_turned(tmp_path, suffix, turn):
    matrix, transpose = TURNS[turn]
    got = read(write(tmp_path / f"x.{suffix}", picture(), matrix))
    want = np.asarray(picture().transpose(transpose)).astype(int)
    assert np.abs(got - want).mean() < 6 < np.abs(got - np.asarray(picture())).mean()


def test_other_angles_are_ignored(tmp_path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
        stream.set_display_rotation(40)
        container.mux(stream.encode(av.VideoFrame.from_image(picture())))
        container.mux(stream.encode(None))
    assert np.abs(read(path) - np.asarray(picture())).mean() < 6


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("aspect, size", [((2, 1), (64, 128)), ((1, 2), (128, 64)), ((16, 15), (60, 64))])
def test_pixels_become_square(tmp_path, suffix, aspect, size):
    got = read(write(tmp_path / f"x.{suffix}", picture(*size), aspect=Fraction(*aspect)))
    assert np.abs(got - np.asarray(picture())).mean() < 8


def test_a_turned_frame_of_pixels_that_are_not_square(tmp_path):
    """Stored 64 wide and 128 high with pixels twice as wide as high, shown on its side."""
    matrix, transpose = TURNS["clockwise"]
    got = read(write(tmp_path / "x.mov", picture(64, 128), matrix, Fraction(2, 1)))
    assert np.abs(got - np.asarray(picture().transpose(transpose)).astype(int)).mean() < 8
