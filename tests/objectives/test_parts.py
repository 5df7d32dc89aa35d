"""Parts that are kept clean: what is drawn, what the denoiser sees, and whose errors count."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.diffusion import process
from codi_jax.objectives import ldm, parts
from codi_jax.objectives.base import StageSpec
from codi_jax.objectives.conditioning import NoisySample, PromptConfig
from codi_jax.objectives.ldm import LDMConfig, LDMObjective
from codi_jax.objectives.parts import KeptPart
from tests import toy
from tests.objectives.constant_model import ConstantModality, ConstantModel, encoded

KEY = jax.random.key(0)


@functools.lru_cache
def variables():
    return toy.variables(toy.codi("text", "image", "audio"))


def is_box(cells):
    """Whether the cells that are set, of which there are some, are all those of a box."""
    places = np.argwhere(cells)
    return cells[tuple(slice(a, b + 1) for a, b in zip(places.min(0), places.max(0), strict=True))].all()


@pytest.mark.parametrize("shape", [(8,), (2, 2), (4, 6), (3, 4, 5)])
def test_a_part_is_a_box_or_all_but_a_box(shape):
    drawn = np.asarray(parts.masks(KEY, 400, shape, 1.0)) > 0
    assert drawn.shape == (400, *shape)
    for mask in drawn:
        assert mask.any() and not mask.all()
        assert is_box(mask) or is_box(~mask)
    # Every cell is kept in about half of the samples, and along every axis some parts are cut and some are not.
    assert np.abs(drawn.mean(0) - 0.5).max() < 0.12
    for axis in range(len(shape)):
        along = [mask.any(tuple(k for k in range(len(shape)) if k != axis)) for mask in drawn if is_box(mask)]
        assert len({tuple(cells) for cells in along}) > 2


def test_a_share_of_the_samples_has_a_part():
    assert not np.asarray(parts.masks(KEY, 50, (4, 4), 0.0)).any()
    some = np.asarray(parts.masks(KEY, 1000, (4, 4), 0.25)).any((1, 2)).mean()
    assert 0.2 < some < 0.3


def test_errors_of_the_generated_cells_alone_count():
    # Of the first sample one of four cells is generated, with an error of 3; of the second all, with 1, 1, 1 and 5.
    mask = jnp.array([[1, 1, 0, 1], [0, 0, 0, 0]], jnp.float32)
    target = jnp.array([[9, 9, 3, 9], [1, 1, 1, 5]], jnp.float32)
    model = ConstantModel("x0", a=ConstantModality())
    sample = NoisySample(target, jnp.zeros((2, 4)), jnp.array([10, 500]), jnp.zeros((2, 4)))
    found = ldm.prediction_loss(model, jnp.zeros((2, 4)), sample, 0.0, KeptPart(jnp.zeros((2, 4)), mask))
    assert float(found) == pytest.approx((9 + 28 / 4) / 2)


def test_the_denoiser_sees_what_is_kept_without_noise():
    model, batch = ConstantModel("eps", a=ConstantModality(answer=0.5)), {"a": encoded(16)}
    part = KeptPart(jnp.full((16, 3), 7.0), jnp.tile(jnp.array([[0.0, 1.0, 0.0]]), (16, 1)))
    value, _ = ldm.loss(model, "a", LDMConfig(PromptConfig(("a",), drop=0.0)), {}, batch, KEY, part)
    free, _ = ldm.loss(model, "a", LDMConfig(PromptConfig(("a",), drop=0.0)), {}, batch, KEY)
    kept, all_noisy = (np.asarray(call.z) for call in model["a"].calls)
    np.testing.assert_array_equal(kept[:, 1], 7)
    np.testing.assert_array_equal(kept[:, ::2], all_noisy[:, ::2])
    t, noise = model["a"].calls[0].t, jnp.zeros((16, 3))
    noise = (all_noisy - process.corrupt(model.schedule, noise, t, noise)) / model.schedule.at(t, noise).sigma
    assert float(value) == pytest.approx(np.square(noise[:, ::2] - 0.5).mean(), rel=1e-4)
    assert float(value) != float(free)


def test_an_axis_of_one_cell_is_not_cut():
    of_a_frame = SimpleNamespace(part_axes=(0, 1, 2), latent_shape=(1, 4, 4, 8))
    assert parts.cut_axes(of_a_frame) == (1, 2)
    assert parts.cut_axes(SimpleNamespace(part_axes=(0,), latent_shape=(1, 4, 8))) == ()


@pytest.mark.parametrize("name", ["image", "audio"])
def test_what_is_hidden_does_not_reach_the_latents_of_what_is_kept(name):
    codi, rng = toy.codi("text", "image", "audio"), np.random.default_rng(0)
    shape = codi[name].example(6).shape
    one, other = (jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32) for _ in range(2))
    part = parts.draw(codi, name, variables(), one, KEY, 1.0)
    along = tuple(axis for axis in range(1, part.mask.ndim) if axis - 1 not in codi[name].part_axes)
    mask = part.mask.max(along, keepdims=True)
    cells = np.asarray(mask)
    for axis, length in enumerate(shape[:-1]):
        cells = np.repeat(cells, length // cells.shape[axis], axis)
    changed = jnp.where(cells > 0, one, other)
    assert float(jnp.abs(changed - one).max()) > 0.5
    again = parts.draw(codi, name, variables(), changed, KEY, 1.0)
    np.testing.assert_array_equal(np.asarray(part.mask), np.asarray(again.mask))
    np.testing.assert_array_equal(np.asarray(part.z), np.asarray(again.z))
    whole, _ = codi[name].encode(variables(), one)
    assert float(jnp.abs(jnp.where(part.mask > 0, part.z - whole, 0)).max()) > 1e-3  # the codec does see surroundings


@pytest.mark.parametrize(
    ("names", "encoded", "share", "says"),
    [
        (("image", "text"), True, 0.5, "parts: what is hidden has to be hidden from the codec; name a source of media"),
        (("text", "image"), False, 0.5, "parts: no part of text can be kept"),
        (("image", "text"), False, 1.5, "parts: expected a share from 0 to 1, got 1.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(names, encoded, share, says):
    settings = {"prompts": {"sources": names}, "parts": share}
    with pytest.raises(ConfigError, match=says):
        LDMObjective.from_stage(toy.codi("text", "image"), StageSpec(names, settings, encoded))
