"""Image preprocessing; tests/parity/test_preprocess.py compares it with the release."""

import numpy as np
import pytest
from PIL import Image

from codi_jax.media import images

NOISE = np.random.default_rng(0).integers(0, 256, (2, 40, 64, 3), np.uint8)


def test_without_a_seed_the_center_is_cropped():
    got = images.crop_resize(Image.fromarray(NOISE[0]), 40)
    np.testing.assert_array_equal(got, NOISE[0, :, 12:52])


def test_a_seed_gives_a_random_crop_and_mirroring():
    image = Image.fromarray(NOISE[0])
    crops = set()
    for seed in range(40):
        got = images.crop_resize(image, 40, seed)
        np.testing.assert_array_equal(got, images.crop_resize(image, 40, seed))
        matches = [
            (left, mirrored)
            for left in range(25)
            for mirrored in (False, True)
            if np.array_equal(got[:, ::-1] if mirrored else got, NOISE[0, :, left : left + 40])
        ]
        assert len(matches) == 1
        crops.add(matches[0])
    assert {mirrored for _, mirrored in crops} == {False, True}
    assert min(left for left, _ in crops) < 6 and max(left for left, _ in crops) > 18


def test_center_crop():
    assert images.center_crop(NOISE).shape == (2, 40, 40, 3)
    np.testing.assert_array_equal(images.center_crop(NOISE), NOISE[:, :, 12:52])
    np.testing.assert_array_equal(images.center_crop(NOISE[:, :, :41]), NOISE[:, :, 1:41])  # half a pixel to the right
    np.testing.assert_array_equal(images.center_crop(NOISE[:, :, :17]), NOISE[:, 12:29, :17])


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("length", "target"), [(9, 9), (16, 5), (5, 16), (64, 63)])
def test_resize_weights_sum_to_one_and_are_symmetric(length, target, antialias):
    weights = images.cubic_weights(length, target, antialias)
    assert weights.shape == (target, length)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-9)
    if length == target:
        np.testing.assert_allclose(weights, np.eye(length), atol=1e-12)


def test_downsampling_averages_only_with_antialias():
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 255
    smooth = images.resize_frames(stripes, 8, antialias=True)[0, 2:6, 2:6]
    coarse = images.resize_frames(stripes[:, :, :63], 9)[0, 2:6]
    assert np.abs(smooth.astype(int) - 127.5).max() < 4
    assert set(np.unique(coarse)) == {0, 255}


def test_the_round_trip_to_levels_loses_one_on_63_of_256():
    levels = np.arange(256, dtype=np.uint8)
    flat = np.broadcast_to(levels[:, None, None, None], (256, 6, 6, 3))
    normal = images.CLIPPixels(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    seen = np.round(images.clip_pixels(images.to_float(flat), 4, normal) * 255).astype(int)
    lost = levels - seen[:, 0, 0, 0]
    assert (lost == 1).sum() == 63 and set(lost) == {0, 1}
    assert (seen == seen[:, :1, :1, :1]).all()


def test_clip_pixels_center_crops_and_normalizes():
    pixels = images.to_float(NOISE)
    got = images.clip_pixels(pixels, 20)
    assert got.shape == (2, 20, 20, 3) and got.dtype == np.float32
    wider = images.clip_pixels(pixels[:, :, 12:52], 20)
    np.testing.assert_allclose(got[:, 4:16, 4:16], wider[:, 4:16, 4:16], atol=0.02)  # 20 x 32 is cropped to 20 x 20
    grey = images.clip_pixels(np.zeros((1, 8, 8, 3), np.float32), 4)
    want = (127 / 255 - np.array(images.CLIPPixels().mean)) / np.array(images.CLIPPixels().std)
    np.testing.assert_allclose(grey, np.broadcast_to(want, grey.shape), rtol=1e-5)


@pytest.mark.parametrize("how", ["pillow", "torch", "torch_antialias"])
def test_frame_shaper(how):
    got = images.frame_shaper(8, how)(Image.fromarray(NOISE[0]))
    crop = NOISE[0, :, 12:52]
    want = {
        "pillow": images.resize(crop, 8, 8),
        "torch": images.resize_frames(crop, 8),
        "torch_antialias": images.resize_frames(crop, 8, antialias=True),
    }
    assert got.dtype == np.uint8 and not np.array_equal(want["torch"], want["torch_antialias"])
    np.testing.assert_array_equal(got, want[how])
