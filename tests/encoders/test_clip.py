import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from codi_jax.config import from_dict
from codi_jax.encoders.clip import CLIPText, CLIPTextConfig, CLIPVision, CLIPVisionConfig, LogitScale, quick_gelu, unit
from codi_jax.encoders.clip_temporal import CLIPTemporal

TEXT = CLIPTextConfig(vocab=20, width=8, layers=2, heads=2, feed_forward=16, positions=6, projection=5)
VISION = CLIPVisionConfig(image_size=8, patch=4, width=12, layers=2, heads=2, feed_forward=16, projection=5)
VIDEO = dataclasses.replace(VISION, temporal=True)
KEY = jax.random.key(0)


def random_params(model, *args):
    """Random parameters of order one, so that no layer is zero; drawn in NumPy to avoid compiling the initialisers."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *args)["params"]

    def draw(path, leaf):
        fan = np.prod(leaf.shape[:-1]) if path[-1].key == "kernel" else 4
        return jnp.asarray((path[-1].key == "scale") + rng.normal(size=leaf.shape) / np.sqrt(fan), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def jitted(tower):
    return jax.jit(lambda p, *args: tower.apply({"params": p}, *args))


def run(tower, params, *args):
    return np.asarray(jitted(tower)(params, *args))


@pytest.fixture(scope="module")
def text():
    return CLIPText(TEXT), random_params(CLIPText(TEXT), jnp.zeros((1, 2), jnp.int32))


@pytest.fixture(scope="module")
def video_tower():
    return CLIPVision(VIDEO), random_params(CLIPVision(VIDEO), jnp.zeros((1, 2, 8, 8, 3)))


@pytest.fixture(scope="module")
def frames():
    return jax.random.normal(jax.random.key(1), (2, 3, 8, 8, 3))


def test_text_is_encoded_up_to_the_first_eos(text):
    ids = np.array([[3, 4, 19, 19, 19], [3, 4, 19, 7, 1], [5, 4, 19, 7, 1]])
    out = run(*text, ids)
    assert out.shape == (3, 5)
    np.testing.assert_allclose(out[0], out[1], atol=1e-6)
    assert np.abs(out[1] - out[2]).max() > 1e-3
    np.testing.assert_allclose(run(*text, ids[:1, :3]), out[:1], atol=1e-6)


def test_a_video_of_one_frame_equals_its_image(video_tower, frames):
    np.testing.assert_allclose(run(*video_tower, frames[:, :1]), run(*video_tower, frames[:, 0]), atol=1e-6)


def test_the_embedding_of_a_video_depends_on_the_order_of_frames(video_tower, frames):
    base = run(*video_tower, frames)
    assert base.shape == (2, 5)
    assert np.abs(run(*video_tower, frames[:, ::-1]) - base).max() > 1e-3
    np.testing.assert_allclose(run(*video_tower, frames[:1])[0], base[0], atol=1e-5)  # samples are independent


def test_at_initialisation_a_video_is_the_mean_over_its_frames(video_tower, frames):
    start = jax.jit(CLIPTemporal(heads=2).init, static_argnums=2)(KEY, jnp.zeros((2, 3, 12)), 2)["params"]
    params = {k: {**v, "temporal": start} if "layer" in k else v for k, v in video_tower[1].items()}
    assert jax.tree.structure(params) == jax.tree.structure(video_tower[1])
    plain = {k: {n: x for n, x in v.items() if n != "temporal"} if "layer" in k else v for k, v in params.items()}
    assert jax.tree.structure(plain) == jax.tree.structure(random_params(CLIPVision(VISION), frames))
    want = run(CLIPVision(VISION), plain, frames)
    np.testing.assert_allclose(run(CLIPVision(VIDEO), params, frames), want, atol=1e-5)
    assert np.abs(run(*video_tower, frames) - want).max() > 1e-3


def test_bfloat16_is_close_to_float32(text, video_tower, frames):
    for (tower, params), x in ((text, np.array([[3, 4, 19]])), (video_tower, frames)):
        near = run(type(tower)(tower.config, jnp.bfloat16), params, x)
        assert near.dtype == np.float32
        assert (unit(near) * unit(run(tower, params, x))).sum(-1).min() > 0.99


def test_towers_with_remat_give_the_same_embeddings(text, video_tower, frames):
    for (tower, params), media in ((text, jnp.ones((1, 6), jnp.int32)), (video_tower, frames)):
        want = run(tower, params, media)
        for remat in ("blocks", "dots"):
            np.testing.assert_allclose(run(tower.clone(remat=remat), params, media), want, atol=1e-6)


def test_quick_gelu_unit_and_logit_scale():
    np.testing.assert_allclose(quick_gelu(jnp.array([0.0, 1.0, -10.0])), [0, 1 / (1 + np.exp(-1.702)), 0], atol=1e-5)
    np.testing.assert_allclose(unit(jnp.array([[3.0, 4.0]])), [[0.6, 0.8]], rtol=1e-6)
    scale = LogitScale()
    params = scale.init(KEY)["params"]
    np.testing.assert_allclose(run(scale, params), 1 / 0.07, rtol=1e-6)
    np.testing.assert_allclose(run(scale, {"log_scale": jnp.array(9.0)}), 100, rtol=1e-6)


def test_configs_are_read_from_dicts():
    assert from_dict(CLIPTextConfig, ConfigDict(dataclasses.asdict(TEXT))) == TEXT
    assert from_dict(CLIPVisionConfig, ConfigDict(dataclasses.asdict(VIDEO))) == VIDEO


def test_inputs_beyond_the_limits_raise(text):
    with pytest.raises(ValueError, match="7 tokens exceed the 6 positions"):
        run(*text, np.ones((1, 7), int))
    with pytest.raises(ValueError, match="expected 8 x 8 pixels"):
        random_params(CLIPVision(VISION), jnp.zeros((1, 8, 9, 3)))
