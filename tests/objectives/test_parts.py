"""Prompt encoders that read parts: what is hidden, what the encoder sees, and what it learns."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.objectives import parts
from codi_jax.objectives.base import StageSpec
from codi_jax.objectives.parts import PartsObjective
from tests import toy

KEY = jax.random.key(0)
ENCODERS = {"image": "clip_vision", "audio": "clap_audio"}


@functools.lru_cache
def codi():
    return toy.reading_parts("text", "image", "audio")


@functools.lru_cache
def variables():
    made = toy.variables(codi())
    copies = {f"{name}_parts": made["params"][encoder] for name, encoder in ENCODERS.items()}
    return {**made, "params": {**made["params"], **copies}}


def objective(name):
    return PartsObjective(codi(), name)


def media(name, seed=0):
    rng, shape = np.random.default_rng(seed), codi()[name].example(6).shape
    return jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32)


def in_media(name, mask):
    """A mask of cells in the resolution of media."""
    cells = np.asarray(mask)
    for axis, length in enumerate(codi()[name].example(6).shape[:-1]):
        cells = np.repeat(cells, length // cells.shape[axis], axis)
    return cells > 0


def is_box(cells):
    """Whether the cells that are set, of which there are some, are all those of a box."""
    places = np.argwhere(cells)
    return cells[tuple(slice(a, b + 1) for a, b in zip(places.min(0), places.max(0), strict=True))].all()


@pytest.mark.parametrize("shape", [(8,), (2, 2), (4, 6), (3, 4, 5)])
def test_a_part_is_a_box_or_all_but_a_box(shape):
    drawn = np.asarray(parts.masks(KEY, 400, shape)) > 0
    assert drawn.shape == (400, *shape)
    for mask in drawn:
        assert mask.any() and not mask.all()
        assert is_box(mask) or is_box(~mask)
    # Every cell is kept in about half of the samples, and along every axis some parts are cut and some are not.
    assert np.abs(drawn.mean(0) - 0.5).max() < 0.12
    for axis in range(len(shape)):
        along = [mask.any(tuple(k for k in range(len(shape)) if k != axis)) for mask in drawn if is_box(mask)]
        assert len({tuple(cells) for cells in along}) > 2


def test_an_axis_of_one_cell_is_not_cut():
    of_a_frame = SimpleNamespace(part_axes=(0, 1, 2), latent_shape=(1, 4, 4, 8))
    assert parts.cut_axes(of_a_frame) == (1, 2)
    assert parts.cut_axes(SimpleNamespace(part_axes=(0,), latent_shape=(1, 4, 8))) == ()


@pytest.mark.parametrize("name", ENCODERS)
def test_what_is_hidden_does_not_reach_the_encoder(name):
    modality, one = codi()[name], media(name)
    mask = objective(name).mask(KEY, 6)
    assert mask.shape[1:] == tuple(
        n if axis in modality.part_axes else 1 for axis, n in enumerate(modality.latent_shape)
    )
    kept = in_media(name, mask)
    assert kept.any() and not kept.all()
    changed = jnp.where(kept, one, media(name, 1))
    a, b = (np.asarray(modality.hide(x, mask)) for x in (one, changed))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a[np.broadcast_to(kept, a.shape)], np.asarray(one)[np.broadcast_to(kept, a.shape)])


@pytest.mark.parametrize("name", ENCODERS)
def test_the_loss_is_the_distance_to_what_was_said_of_the_whole(name):
    modality, made, one = codi()[name], objective(name), media(name)
    loss, _ = made.loss(variables(), {name: one}, KEY)
    encoder = variables()["params"][ENCODERS[name]]
    read = modality.embed(encoder, modality.hide(one, made.mask(KEY, 6)))
    assert float(loss) == pytest.approx(float(jnp.square(read - modality.embed(encoder, one)).sum(-1).mean()), rel=1e-5)
    assert float(loss) > 1e-4


def test_what_is_said_is_centred_and_scaled_as_prompts_are():
    constants = {"clip_vision": {"centre": np.ones(3), "gain": np.float32(2)}, "vision_codec": {}}
    assert objective("image").statistics({"constants": constants}, iter(())) == {
        "image_parts": constants["clip_vision"]
    }


@pytest.mark.parametrize("name", ENCODERS)
def test_it_is_a_prompt_encoder_of_its_own_that_starts_as_the_other(name):
    modality, one = codi()[name], media(name)
    assert objective(name).components == (f"{name}_parts", ENCODERS[name])
    same = modality.prompt(variables(), one)
    np.testing.assert_array_equal(modality.prompt(variables(), one, role="parts"), same)
    other = jax.tree.map(lambda x: x[..., ::-1], variables()["params"][ENCODERS[name]])
    changed = {**variables(), "params": {**variables()["params"], f"{name}_parts": other}}
    assert not np.array_equal(modality.prompt(changed, one, role="parts"), same)
    np.testing.assert_array_equal(modality.prompt(changed, one), same)


@pytest.mark.parametrize(
    ("names", "encoded", "settings", "says"),
    [
        (("image",), True, {}, "objective parts: expected one modality and a source of its media"),
        (("image", "text"), False, {}, "objective parts: expected one modality and a source of its media"),
        (
            ("text",),
            False,
            {},
            "objective parts: text has no encoder of parts; config.model.modalities.text has to have ",
        ),
        (("image",), False, {"share": 1.0}, "share"),
    ],
)
def test_stages_that_cannot_be_are_refused(names, encoded, settings, says):
    with pytest.raises(ConfigError, match=says):
        PartsObjective.from_stage(toy.reading_parts("text", "image"), StageSpec(names, settings, encoded))


def test_a_modality_of_one_cell_has_no_parts(monkeypatch):
    monkeypatch.setattr(parts, "cut_axes", lambda modality: ())
    with pytest.raises(ConfigError, match="objective parts: no part of image can be kept"):
        PartsObjective.from_stage(toy.reading_parts("text", "image"), StageSpec(("image",), {}))
