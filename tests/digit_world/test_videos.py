"""Motion and bounce: the position of one pixel in every frame, by hand."""

import numpy as np
import pytest

from codi_jax.digit_world.factors import MOTIONS
from codi_jax.digit_world.videos import FRAMES, LEAP, SPEED, move, offsets

OFFSETS = [-4, -3, -2, -1, 0, 1, 2, 3]  # pixels along the motion in each frame
LEAPS = [0, 0, 2, 5, 2, 0, 0, 0]  # pixels across the motion, for an event in frame 3


def path(motion, start=(10, 20), size=32, event=3):
    """Row and column of a single lit pixel, frame by frame."""
    image = np.zeros((1, size, size, 1), np.float32)
    image[0, *start] = 1
    video = move(image, np.array([MOTIONS.index(motion)]), np.array([event]), MOTIONS)
    assert video.shape == (1, 8, size, size, 1) and video.dtype == np.float32
    rows, columns = zip(*(np.argwhere(frame[..., 0])[0] for frame in video[0]), strict=True)
    assert video.sum() == FRAMES  # one pixel a frame
    return np.array(rows), np.array(columns)


@pytest.mark.parametrize(("motion", "down", "right"), [("left", 0, -1), ("right", 0, 1), ("up", -1, 0), ("down", 1, 0)])
def test_a_pixel_moves_by_the_motion_and_the_bounce(motion, down, right):
    rows, columns = path(motion)
    leaps = np.array(LEAPS)
    np.testing.assert_array_equal(rows, 10 + down * np.array(OFFSETS) - (leaps if right else 0))
    np.testing.assert_array_equal(columns, 20 + right * np.array(OFFSETS) + (leaps if down else 0))
    unbounced = offsets(motion, None)
    assert set(np.abs(np.diff(unbounced, axis=0)).sum(1)) == {SPEED}


def test_motion_wraps_around():
    rows, _ = path("down", start=(30, 5))
    assert rows.tolist() == [26, 27, 28, 29, 30, 31, 0, 1]
    rows, _ = path("left", start=(3, 20))
    assert rows.tolist() == [3, 3, 1, 30, 1, 3, 3, 3]
    _, columns = path("left", start=(3, 1))
    assert columns.tolist() == [5, 4, 3, 2, 1, 0, 31, 30]


def test_frame_4_is_the_unshifted_image():
    for motion in MOTIONS:
        rows, columns = path(motion, event=1)
        assert (rows[4], columns[4]) == (10, 20)


def test_the_top_of_the_bounce_is_at_the_event():
    for motion in MOTIONS:
        for event in range(FRAMES):
            leap = np.abs(offsets(motion, event) - offsets(motion, None)).sum(1)
            assert leap.argmax() == event and leap.max() == LEAP[0]
            assert (leap > 0).sum() == 3 - (event in (0, FRAMES - 1))


def test_videos_of_a_batch_have_independent_motions():
    rng = np.random.default_rng(0)
    images, motion = rng.normal(size=(6, 8, 8, 3)), np.array([3, 0, 1, 0, 2, 2])
    event = np.array([1, 2, 6, 2, 4, 4])
    together = move(images, motion, event, MOTIONS)
    for i in range(6):
        one = slice(i, i + 1)
        np.testing.assert_array_equal(together[one], move(images[one], motion[one], event[one], MOTIONS))
    left, right = (move(images[:1], np.array([m]), np.array([4]), MOTIONS) for m in (0, 1))
    np.testing.assert_array_equal(left[:, 1:], right[:, :0:-1])  # reversed in time, except for the first frame
