import numpy as np

from codi_jax.digit_world.factors import PALETTE
from codi_jax.digit_world.glyphs import glyphs
from codi_jax.digit_world.images import paint, warp


def draw(glyph=17, shift=(0.0, 0.0), scale=1.0, angle=0.0):
    return warp(np.array([glyph]), np.array([shift]), np.array([scale]), np.array([angle]))[0]


def test_the_identity_warp_copies_the_glyph():
    glyph = glyphs().reshape(-1, 28, 28)[3017] / np.float32(255)
    expected = np.pad(glyph, 2)
    np.testing.assert_allclose(draw(3017), expected, atol=1e-5)
    np.testing.assert_allclose(draw(3017, shift=(2.0, -1.0)), np.roll(expected, (-1, 2), (0, 1)), atol=1e-5)


def test_a_shift_of_half_a_pixel_averages_two_pixels():
    unshifted = draw(3017)
    np.testing.assert_allclose(draw(3017, shift=(0.5, 0.0)), (unshifted + np.roll(unshifted, 1, 1)) / 2, atol=1e-5)


def test_a_quarter_turn_is_clockwise():
    np.testing.assert_allclose(draw(3017, angle=np.pi / 2), np.rot90(draw(3017), -1), atol=1e-4)


def test_brightness_grows_with_the_square_of_the_scale():
    assert abs(draw(17, scale=1.1).sum() / draw(17).sum() / 1.21 - 1) < 0.02


def test_warps_stay_in_range_and_outside_the_glyph_is_black():
    rng = np.random.default_rng(0)
    n = 300
    out = warp(rng.integers(0, 5000, n), rng.uniform(-9, 9, (n, 2)), rng.uniform(0.5, 1.5, n), rng.uniform(-3, 3, n))
    assert out.dtype == np.float32 and out.min() >= 0 and out.max() <= 1
    assert draw(17, shift=(40.0, 0.0)).max() == 0


def test_a_batch_equals_single_warps():
    rng = np.random.default_rng(1)
    n = 150  # more than a chunk
    arguments = rng.integers(0, 5000, n), rng.uniform(-2, 2, (n, 2)), rng.uniform(0.9, 1.1, n), rng.uniform(-1, 1, n)
    together = warp(*arguments)
    for i in (0, 63, 64, 149):
        np.testing.assert_array_equal(together[i], warp(*(a[i : i + 1] for a in arguments))[0])


def test_paint_uses_the_palette_on_black():
    out = paint(np.array([[0.0, 0.5, 1.0]] * 6), np.arange(6))
    assert out.shape == (6, 3, 3)
    np.testing.assert_allclose(out[:, 0], -1)
    np.testing.assert_allclose(out[:, 1], PALETTE - 1, atol=1e-6)
    np.testing.assert_allclose(out[:, 2], 2 * PALETTE - 1, atol=1e-6)
