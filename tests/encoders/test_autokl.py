import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from codi_jax.config import from_dict
from codi_jax.encoders.autokl import AutoKL, AutoKLConfig, GridAttention

TINY = AutoKLConfig(in_channels=2, channels=8, mult=(1, 2), blocks=1, z_channels=3, embed_dim=2, groups=4)


def random_params(model, *args):
    """Random parameters of order one, so that no layer is zero; drawn in NumPy to avoid compiling the initialisers."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *args)["params"]

    def draw(path, leaf):
        fan = np.prod(leaf.shape[:-1]) if path[-1].key == "kernel" else 4
        return jnp.asarray((path[-1].key == "scale") + rng.normal(size=leaf.shape) / np.sqrt(fan), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def params():
    return random_params(AutoKL(TINY), jnp.zeros((1, 4, 4, 2)))


@functools.cache
def jitted(method, dtype):
    return jax.jit(lambda p, *args: AutoKL(TINY, dtype).apply({"params": p}, *args, method=method))


def run(params, *args, method=None, dtype=jnp.float32):
    return jitted(method, dtype)(params, *args)


def test_frames_of_a_video_are_encoded_independently(params):
    video = jax.random.normal(jax.random.key(1), (2, 3, 6, 4, 2))
    frames = video.reshape(6, 6, 4, 2)
    one, many = run(params, frames), run(params, video)
    assert many[0].shape == video.shape
    assert many[1].shape == many[2].shape == (2, 3, 3, 2, 2)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(a, b.reshape(a.shape), atol=1e-5)
    alone = run(params, frames[3:4])
    np.testing.assert_allclose(alone[0][0], one[0][3], atol=1e-5)


def test_the_latent_is_sampled_around_the_mean(params):
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 2))
    from_mean, mean, _ = run(params, x)
    np.testing.assert_allclose(from_mean, run(params, mean, method="decode"), atol=1e-5)
    sampled, *_ = run(params, x, jax.random.key(2))
    assert np.abs(sampled - from_mean).max() > 1e-3


def test_logvar_is_clipped(params):
    extreme = jnp.array([0.0, 0.0, 1e4, -1e4])
    extreme = {**params, "quant": {**params["quant"], "bias": extreme}}
    _, logvar = run(extreme, jnp.zeros((1, 4, 4, 2)), method="encode")
    assert logvar[..., 0].min() == 20
    assert logvar[..., 1].max() == -30


def test_grid_attention_with_equal_scores_is_the_mean():
    layer = GridAttention(TINY)
    x = jax.random.normal(jax.random.key(3), (1, 2, 3, 8))
    params = random_params(layer, x)
    eye = {"kernel": jnp.eye(8)[None, None], "bias": jnp.zeros(8)}
    params |= {"q": jax.tree.map(jnp.zeros_like, params["q"]), "v": eye, "out": eye}
    params["norm"] = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}
    grouped = np.asarray(x).reshape(6, 4, 2)
    normed = (grouped - grouped.mean((0, 2), keepdims=True)) / np.sqrt(grouped.var((0, 2), keepdims=True) + 1e-6)
    want = x + normed.reshape(6, 8).mean(0)
    np.testing.assert_allclose(layer.apply({"params": params}, x), want, atol=1e-6)


def test_bfloat16_is_close_to_float32_and_every_kernel_has_a_gradient(params):
    x = jax.random.uniform(jax.random.key(1), (2, 4, 4, 2), minval=-1)

    def loss(p):
        out = AutoKL(TINY, jnp.bfloat16).apply({"params": p}, x, jax.random.key(4))
        return jnp.square(out[0] - x).mean(), out

    gradient, near = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert all(y.dtype == jnp.float32 for y in near)
    np.testing.assert_allclose(near[1], run(params, x)[1], atol=0.2)
    for path, g in jax.tree_util.tree_leaves_with_path(gradient):
        assert g.dtype == jnp.float32
        assert np.isfinite(g).all()
        assert np.abs(g).max() > 0 or path[-1].key == "bias"  # the bias of the key shifts all scores equally


def test_the_config_is_read_from_a_dict_and_attention_is_optional():
    config = from_dict(AutoKLConfig, ConfigDict({**dataclasses.asdict(TINY), "mid_attention": False}))
    assert config == dataclasses.replace(TINY, mid_attention=False)
    leaves = jax.eval_shape(AutoKL(config).init, jax.random.key(0), jnp.zeros((1, 4, 4, 2)))["params"]
    assert "mid_attention" not in leaves["encoder"]


def test_a_side_that_is_no_multiple_raises(params):
    with pytest.raises(ValueError, match="multiples of 2"):
        run(params, jnp.zeros((1, 5, 4, 2)), method="encode")
