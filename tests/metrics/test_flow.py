"""The flow of shifts that are known, of frames that are equal, and its unit."""

import numpy as np
import pytest
from scipy import ndimage

from codi_jax.metrics.flow import flow_strength, luminance, optical_flow


def texture(side, seed=0):
    x = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((side, side)), 2, mode="wrap")
    return ((x - x.min()) / (x.max() - x.min())).astype(np.float32)


def video(*frames):
    """A grey video [1, T, H, W, 3] of uint8."""
    return np.repeat(np.rint(255 * np.stack(frames)).astype(np.uint8)[None, ..., None], 3, axis=-1)


@pytest.mark.parametrize(("rows", "columns"), [(1, 0), (0, 3), (-2, 2), (5, -1)])
def test_a_shift_is_found_with_its_direction(rows, columns):
    whole = texture(96)
    a, b = (whole[16 + dy : 80 + dy, 16 + dx : 80 + dx] for dy, dx in ((0, 0), (-rows, -columns)))
    flow = optical_flow(a[None], b[None])[:, 0]
    np.testing.assert_allclose(np.median(flow, axis=(1, 2)), [rows, columns], atol=0.05)
    assert flow_strength(video(a, b))[0, 0] == pytest.approx(np.hypot(rows, columns), rel=0.05)


def test_a_shift_of_part_of_a_pixel():
    a = texture(64)
    b = ndimage.shift(a, (0.3, 0), order=3, mode="grid-wrap")
    assert flow_strength(video(a, np.clip(b, 0, 1)))[0, 0] == pytest.approx(0.3, abs=0.06)


def test_equal_frames_and_flat_ones_have_no_flow():
    a = texture(32)
    assert flow_strength(video(a, a, a)).tolist() == [[0, 0]]
    assert flow_strength(video(np.zeros((32, 32)), np.ones((32, 32)))).tolist() == [[0]]


@pytest.mark.parametrize("background", [np.full((64, 64), 0.5), texture(64, 3)], ids=["flat", "textured"])
def test_an_object_moves_and_its_background_does_not(background):
    """A square of 24 × 24 of 64 × 64 that moves by 2 pixels; its surroundings within the window seem to move, too."""
    frames = [background.copy() for _ in range(2)]
    for k, frame in enumerate(frames):
        frame[20:44, 18 + 2 * k : 42 + 2 * k] = texture(24, 1)
    assert 2 * (24 / 64) ** 2 < flow_strength(video(*frames))[0, 0] < 2 * (34 / 64) ** 2


def test_the_unit_is_a_pixel_of_the_original():
    whole = np.kron(texture(64), np.ones((4, 4), np.float32))
    v = video(whole[:192, :192], whole[8:200, :192])
    assert flow_strength(v, side=64)[0, 0] == pytest.approx(8, rel=0.1)
    assert flow_strength(v, side=192)[0, 0] == pytest.approx(8, rel=0.1)


def test_types_and_videos_do_not_matter_to_one_another():
    a, b, c = texture(32, 1), texture(32, 2), np.roll(texture(32, 1), 1, 0)
    one, two = video(a, c, b), video(b, b, a)
    together = flow_strength(np.concatenate([one, two]))
    np.testing.assert_array_equal(together, np.concatenate([flow_strength(one), flow_strength(two)]))
    as_float = one.astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(luminance(as_float), luminance(one), atol=1e-6)
    np.testing.assert_allclose(flow_strength(as_float), flow_strength(one), rtol=1e-3)


def test_bad_videos_are_named():
    with pytest.raises(ValueError, match=r"videos \[N, T, H, W, 3\], got shape \(2, 32, 32, 3\)"):
        flow_strength(np.zeros((2, 32, 32, 3)))
    with pytest.raises(ValueError, match="at least two frames, got 1"):
        flow_strength(np.zeros((1, 1, 32, 32, 3)))
    with pytest.raises(ValueError, match="not finite"):
        flow_strength(np.full((1, 2, 32, 32, 3), np.nan))
    with pytest.raises(ValueError, match="4 by 1024 pixels are too small"):
        flow_strength(np.zeros((1, 2, 4, 1024, 3)))
