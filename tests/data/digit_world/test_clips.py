"""Motion by hand: where a pixel is in every frame."""

import numpy as np
import pytest

from codi_jax.data.digit_world.clips import FRAMES, SPEED, move
from codi_jax.data.digit_world.factors import MOTIONS

# Frame k is (k - 3.5) * 2 pixels further: -7, -5, ..., 7.
OFFSETS = [-7, -5, -3, -1, 1, 3, 5, 7]


def path(motion, start=(10, 20), size=32):
    """Row and column of a single lit pixel, frame by frame."""
    picture = np.zeros((1, size, size, 1), np.float32)
    picture[0, *start] = 1
    clip = move(picture, np.array([MOTIONS.index(motion)]), MOTIONS)
    assert clip.shape == (1, 8, size, size, 1) and clip.dtype == np.float32
    rows, columns = zip(*(np.argwhere(frame[..., 0])[0] for frame in clip[0]), strict=True)
    assert clip.sum() == FRAMES  # one pixel a frame
    return np.array(rows), np.array(columns)


@pytest.mark.parametrize(("motion", "down", "right"), [("left", 0, -1), ("right", 0, 1), ("up", -1, 0), ("down", 1, 0)])
def test_a_pixel_goes_where_it_is_told(motion, down, right):
    rows, columns = path(motion)
    np.testing.assert_array_equal(rows, 10 + down * np.array(OFFSETS))
    np.testing.assert_array_equal(columns, 20 + right * np.array(OFFSETS))
    assert set(np.abs(np.diff(rows)) + np.abs(np.diff(columns))) == {SPEED}


def test_it_comes_back_on_the_other_side():
    rows, _ = path("down", start=(30, 5))
    assert rows.tolist() == [23, 25, 27, 29, 31, 1, 3, 5]
    _, columns = path("left", start=(3, 1))
    assert columns.tolist() == [8, 6, 4, 2, 0, 30, 28, 26]


def test_the_picture_is_in_its_place_in_the_middle():
    # Between the frames 3 and 4, one pixel off either way; over the whole clip on average.
    for motion in MOTIONS:
        rows, columns = path(motion)
        assert (rows[3] + rows[4]) / 2 == rows.mean() == 10
        assert (columns[3] + columns[4]) / 2 == columns.mean() == 20


def test_every_clip_of_a_batch_has_its_own_motion():
    rng = np.random.default_rng(0)
    pictures, motion = rng.normal(size=(6, 8, 8, 3)), np.array([3, 0, 1, 0, 2, 2])
    together = move(pictures, motion, MOTIONS)
    for i in range(6):
        np.testing.assert_array_equal(together[i : i + 1], move(pictures[i : i + 1], motion[i : i + 1], MOTIONS))
    left, right = (move(pictures[:1], np.array([m]), MOTIONS) for m in (0, 1))
    np.testing.assert_array_equal(left, right[:, ::-1])  # backwards in time
