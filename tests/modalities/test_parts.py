"""Spans, frames, and cells of a grid."""

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.modalities.parts import blocks, frames, from_nearest, in_spans, is_spans, spans, spread, with_median
from tests.interop import paper


def test_spans_of_time():
    assert spans("0-0.5s, .8-1.s", "audio") == [(0.0, 0.5), (0.8, 1.0)]
    assert is_spans("0-1s") and not is_spans("0-1")
    np.testing.assert_array_equal(in_spans(np.arange(5) / 4, [(0, 0.25), (0.5, 0.75)]), [1, 0, 1, 0, 0])


@pytest.mark.parametrize("text", ["1-0s", "0-0s", "0-1", "-1-2s", "a-bs", "", "0-1s,"])
def test_other_spans_are_refused(text):
    with pytest.raises(ConfigError, match=r"^audio: keep: expected spans of seconds, such as 0-0.5s, got "):
        spans(text, "audio")


def test_numbers_of_frames():
    np.testing.assert_array_equal(frames("0,5-7", 8, "video"), [1, 0, 0, 0, 0, 1, 1, 1])
    for text in ("8", "3-2", "0,8", "x", "-1", "1.5"):
        with pytest.raises(ConfigError, match=r"^video: keep: expected frames from 0 to 7, such as 0,7, or seconds"):
            frames(text, 8, "video")


def test_a_cell_is_kept_if_all_of_it_is():
    kept = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]], bool)
    np.testing.assert_array_equal(blocks(kept, (2, 2)), [[1, 0], [0, 1]])
    np.testing.assert_array_equal(blocks(np.array([1, 1, 1, 0, 1], bool), (2,)), [1, 0])  # 3 and 2 of 5


def test_pixels_are_filled_from_the_nearest_frame():
    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full((1, 2, 2, 3), 10, np.uint8)
    kept = np.zeros((5, 2, 2), bool)
    kept[1, :, 0] = kept[3, :, 0] = True
    filled = from_nearest(pixels, kept)
    np.testing.assert_array_equal(filled[:, 0, 0, 0], [10, 10, 10, 30, 30])  # frame 2: the earlier of two as near
    assert (filled[:, :, 1] == 20).all() and filled.dtype == np.uint8  # kept nowhere: the median of 10 and 30


def test_pixels_of_an_image_are_filled_by_the_median():
    image, kept = np.full((4, 4, 3), 200, np.uint8), np.zeros((4, 4), bool)
    image[0], kept[0] = [1, 2, 3], True
    np.testing.assert_array_equal(from_nearest(image, kept), np.broadcast_to(np.uint8([1, 2, 3]), (4, 4, 3)))


def test_the_median_of_a_batch_is_that_of_each_sample():
    rng = np.random.default_rng(0)
    pixels, kept = rng.uniform(-1, 1, (5, 4, 6, 3)).astype(np.float32), rng.random((5, 4, 6, 1)) < 0.5
    kept[3], kept[4] = False, True
    filled = np.asarray(with_median(pixels, kept))
    for of, mask, out in zip(pixels[:3], kept, filled, strict=False):
        np.testing.assert_allclose(out, from_nearest(of, mask[..., 0]), atol=1e-6)
    assert (filled[3] == 0).all() and (filled[4] == pixels[4]).all()


def test_cells_are_spread_over_their_pixels():
    mask = np.array([[1, 0], [0, 1]])[None, :, :, None]
    large = np.asarray(spread(mask, (1, 4, 6, 1)))
    assert large.shape == (1, 4, 6, 1)
    np.testing.assert_array_equal(blocks(large[0, ..., 0] > 0, (2, 2)), mask[0, ..., 0] > 0)
    np.testing.assert_array_equal(large[0, :2, :3, 0], 1)


def test_cells_that_do_not_divide_a_value_are_equal_up_to_one_pixel():
    spread_out = np.asarray(spread(np.arange(3)[None], (1, 7)))
    np.testing.assert_array_equal(spread_out, [[0, 0, 0, 1, 1, 2, 2]])


@pytest.mark.parametrize("name", ["image", "audio"])
def test_of_a_model_with_two_front_ends_it_is_the_prompt_encoder_that_sees_a_part(name):
    modality, rng = paper.codi()[name], np.random.default_rng(0)
    example = modality.example(2)
    media = {key: rng.uniform(-1, 1, x.shape).astype(np.float32) for key, x in example.items()}
    cells = modality.latent_shape
    mask = np.zeros((2, *(n if axis in modality.part_axes else 1 for axis, n in enumerate(cells))), np.float32)
    mask[:, : mask.shape[1] // 2] = 1  # the upper half, or the first
    hidden = {key: np.asarray(x) for key, x in modality.hide(media, mask).items()}
    others = media.keys() - {"prompt"}
    assert others and all(hidden[key] is media[key] or np.array_equal(hidden[key], media[key]) for key in others)
    prompt, before = hidden["prompt"], media["prompt"]
    half = prompt.shape[1] // 2
    np.testing.assert_array_equal(prompt[:, : half - 1], before[:, : half - 1])
    rest = prompt[:, half + 1 :]
    assert not np.array_equal(rest, before[:, half + 1 :]) and np.ptp(rest[0], axis=0).max() < 1e-6
