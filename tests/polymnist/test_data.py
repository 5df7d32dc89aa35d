"""The source `polymnist`: what its samples show, and what they lack."""

import itertools
import re

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.data.source import make_source, read_batch
from codi_jax.digit_world.glyphs import SPLITS
from codi_jax.polymnist.data import MODALITIES, VIEWS, PolyMNIST, PolyMNISTConfig, place, present
from codi_jax.polymnist.textures import KINDS, SHADE, texture

SIDES = (32, 64)


def source(**fields):
    return PolyMNIST(PolyMNISTConfig(**{"size": 64, "side": 32, **fields}))


def masks(world, batch, name):
    """The brightness of the glyphs of samples 0 to N - 1 of a source whose tuples are complete."""
    index = np.arange(len(batch["factors"]["digit"]))
    return world.mask(name, index, batch["instances"][f"{name} glyph"], batch["factors"]["quadrant"])


def test_a_sample_is_a_function_of_seed_split_and_index():
    batch = source().read(range(8))
    again = make_source({"name": "polymnist", "size": 64, "side": 32})
    np.testing.assert_array_equal(read_batch(again, [5, 3])["view_2"], batch["view_2"][[5, 3]])
    assert again[3]["digit"] == batch["digit"][3] and again[3]["view_3"].shape == (32, 32, 3)
    np.testing.assert_array_equal(source(size=6).read(range(6))["view_1"], batch["view_1"][:6])
    for other in (source(seed=1), source(split="val")):
        assert np.abs(other.read(range(8))["view_1"] - batch["view_1"]).max((1, 2, 3)).min() > 0.1
    with pytest.raises(IndexError, match=r"^polymnist has samples 0 to 63, got indices 0 to 64$"):
        source().read([0, 64])


def test_every_digit_and_quadrant_is_as_frequent_as_others():
    batch = source(size=2000, modalities=("digit", "quadrant")).read(range(2000))
    assert set(batch) == {"factors", "instances", "digit", "quadrant"} and not batch["instances"]
    for name, count in (("digit", 10), ("quadrant", 4)):
        np.testing.assert_array_equal(batch[name], batch["factors"][name])
        frequency = np.bincount(batch[name], minlength=count) / 2000
        assert np.abs(frequency - 1 / count).max() < 0.04


def test_splits_share_no_glyph_and_views_show_three_of_one_class():
    seen = {}
    for split, rows in SPLITS.items():
        batch = source(split=split, size=300, side=16).read(range(300))
        glyph = np.stack([batch["instances"][f"{name} glyph"] for name in VIEWS], axis=1)
        assert (glyph // 500 == batch["digit"][:, None]).all()
        assert np.isin(glyph % 500, rows).all()
        assert all((glyph[:, a] != glyph[:, b]).all() for a, b in itertools.combinations(range(3), 2))
        seen[split] = set(glyph.ravel().tolist())
    assert all(not seen[a] & seen[b] for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("side", SIDES)
def test_the_digit_is_in_its_quadrant_of_every_view(side):
    world = source(side=side)
    batch = world.read(range(64))
    for name in VIEWS:
        mask = masks(world, batch, name)
        of_quadrant = mask.reshape(64, 2, side // 2, 2, side // 2).sum((2, 4)).reshape(64, 4)
        np.testing.assert_array_equal(of_quadrant.argmax(1), batch["quadrant"])
        assert (np.sort(of_quadrant, axis=1)[:, :3] == 0).all()
        ink = np.stack([(mask.max(axis) > 0.2).sum(-1) for axis in (1, 2)])
        assert (ink.max(0) > 0.25 * side).all()  # half of the canvas, with the margin of a glyph


def test_patches_go_to_their_quadrants():
    patch = np.arange(1.0, 5.0).reshape(1, 2, 2)
    out = place(np.repeat(patch, 4, 0), np.arange(4))
    for k, (rows, columns) in enumerate(itertools.product((slice(0, 2), slice(2, 4)), repeat=2)):
        np.testing.assert_array_equal(out[k, rows, columns], patch[0])
        assert out[k].sum() == 10


def test_a_digit_is_legible_on_every_texture():
    """Where the ink is full, a pixel differs from its background by at least 1 - 2 SHADE of the range, of 2 here."""
    world = source()
    batch = world.read(range(64))
    for k, name in enumerate(VIEWS):
        background = 2 * texture(k, f"polymnist/0/train/{name}", np.arange(64), 32) - 1
        mask = masks(world, batch, name)[..., None]
        np.testing.assert_allclose(batch[name] - background, -2 * mask * background, atol=1e-5)
        contrast = np.abs(batch[name] - background) / np.maximum(mask, 1e-6)
        assert contrast[np.broadcast_to(mask > 0.5, contrast.shape)].min() >= 2 * (1 - 2 * SHADE) - 1e-3
        assert (mask.max((1, 2, 3)) > 0.6).all()
        assert (batch[name] >= -1).all() and (batch[name] <= 1).all()


def test_a_digit_is_nearest_to_the_mean_of_its_class():
    """In the inverted difference to the background, which a network has to find; chance is 0.1."""
    world = source(size=600)
    batch = world.read(range(600))
    mask = masks(world, batch, "view_2").reshape(600, 2, 16, 2, 16).sum((1, 3)).reshape(600, -1)
    mean = np.stack([mask[:300][batch["digit"][:300] == k].mean(0) for k in range(10)])
    nearest = np.square(mask[300:, None] - mean).sum(-1).argmin(1)
    assert (nearest == batch["digit"][300:]).mean() > 0.6


@pytest.mark.parametrize("kind", range(3))
def test_textures_are_dark_or_light_and_do_not_depend_on_the_resolution(kind):
    coarse, fine = (texture(kind, "seed", np.arange(32), side) for side in SIDES)
    assert coarse.dtype == np.float32 and coarse.shape == (32, 32, 32, 3)
    dark = coarse.max((1, 2, 3)) <= SHADE + 1e-6
    assert (dark | (coarse.min((1, 2, 3)) >= 1 - SHADE - 1e-6)).all() and 5 < dark.sum() < 27
    assert (coarse.std((1, 2)).max(-1) > 0.003).all()
    averaged = fine.reshape(32, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(averaged - coarse).mean() < 0.02


def test_views_have_textures_of_their_own_unless_they_are_exchanged():
    plain, mixed = source().read(range(64)), source(shuffle_views=True)
    turned = mixed.read(range(64))["view_1"]
    same = np.abs(plain["view_1"] - turned).max((1, 2, 3)) == 0
    assert 8 < same.sum() < 40
    kinds = [2 * texture(k, "polymnist/0/train/view_1", np.arange(64), 32) - 1 for k in range(len(KINDS))]
    away = np.stack([np.median(np.abs(turned - kind), axis=(1, 2, 3)) for kind in kinds])
    assert (away.min(0) == 0).all() and len(set(away.argmin(0).tolist())) == 3


def test_a_quarter_of_the_tuples_is_complete_and_the_rest_has_two_to_four_modalities():
    has = np.stack(list(present("seed", 0.25, np.arange(8000)).values()), axis=1)
    count = has.sum(1)
    assert abs((count == 5).mean() - 0.25) < 0.02 and count.min() == 2
    sets, frequency = np.unique(has[count < 5], axis=0, return_counts=True)
    assert len(sets) == 25 and np.abs(frequency / frequency.sum() - 1 / 25).max() < 0.01


def test_sources_of_one_seed_are_views_of_one_set_of_tuples():
    """A sample of a pair is a tuple that has both, and holds nothing else."""
    fields = {"size": 400, "complete": 0.25, "side": 16}
    has = present("polymnist/0/train", 0.25, np.arange(400))
    whole = source(**{**fields, "complete": 1.0}).read(range(400))
    for pair in itertools.combinations(MODALITIES, 2):
        part = source(**fields, modalities=pair)
        rows = np.flatnonzero(has[pair[0]] & has[pair[1]])
        assert len(part) == len(rows) and 0.35 < len(rows) / 400 < 0.6
        batch = part.read(range(len(part)))
        assert set(batch) == {"factors", "instances", *pair}
        for name in pair:
            np.testing.assert_array_equal(batch[name], whole[name][rows])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "polymnist: size must be at least 1, got 0"),
        ({"side": 30}, "polymnist: side must be a multiple of 4 and at least 16, got 30"),
        ({"deform": 0.3}, "polymnist: deform must be between 0 and 0.25, got 0.3"),
        ({"complete": 1.5}, "polymnist: complete must be a probability, got 1.5"),
        ({"modalities": ("view1",)}, "polymnist: no modality 'view1' (did you mean view_1?); there are view_1, "),
        ({"size": 1, "complete": 0.0}, "polymnist: none of 1 tuples has view_1, view_2, view_3, digit, quadrant"),
    ],
)
def test_a_config_that_cannot_be_is_one_line(fields, message):
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        source(**fields)
