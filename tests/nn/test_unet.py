"""The U-Net at toy sizes, for every kind of latent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from codi_jax.config import ConfigError
from codi_jax.nn import UNet
from codi_jax.nn.compute import Compute
from codi_jax.nn.kinds import Head, blocks_of
from codi_jax.nn.layout import cross_modal_steps
from codi_jax.nn.unet import Connect, transformer
from tests.nn import toy

KINDS = {"spatial": toy.SPATIAL, "video": toy.VIDEO, "sequence": toy.SEQUENCE, "vector": toy.VECTOR}


@pytest.fixture(scope="module", params=KINDS)
def net(request):
    """The U-Net of a kind, nonzero parameters and a latent."""
    unet, z = UNet(KINDS[request.param]), toy.normal(2, *toy.LATENTS[request.param])
    return unet, toy.init(unet, z, toy.T, toy.CONTEXT), z


def test_the_prediction_has_the_shape_of_the_latent_and_depends_on_all_inputs(net):
    unet, params, z = net
    forward = toy.quick(lambda *args: unet.apply({"params": params}, *args))
    out = forward(z, toy.T, toy.CONTEXT)
    assert (out.shape, out.dtype) == (z.shape, z.dtype)
    for args in ((z + 0.1, toy.T, toy.CONTEXT), (z, toy.T + 9, toy.CONTEXT), (z, toy.T, toy.tokens(8, 2, toy.D))):
        assert np.abs(forward(*args) - out).max() > 1e-4


def test_parameters_are_float32_for_any_compute_type():
    unet, z = UNet(toy.SPATIAL, Compute(jnp.bfloat16)), jnp.zeros(toy.LATENTS["spatial"])
    shapes = jax.eval_shape(unet.init, toy.KEY, z, toy.T, toy.CONTEXT)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    assert jax.eval_shape(unet.apply, shapes, z, toy.T, toy.CONTEXT).dtype == z.dtype


def test_at_initialisation_blocks_are_the_identity_and_the_head_is_zero():
    h, emb = toy.normal(0, toy.B, 2, 2, 32), toy.normal(1, toy.B, 128)
    residual = blocks_of(toy.SPATIAL, jnp.float32).residual(32, None)
    np.testing.assert_array_equal(toy.quick(residual.init_with_output)(toy.KEY, h, emb)[0], h)
    update, _ = toy.quick(transformer(toy.SPATIAL, Compute()).init_with_output)(toy.KEY, h, toy.CONTEXT)
    assert not update.any()
    assert not toy.quick(Head(toy.SPATIAL, 4, zero=True).init_with_output)(toy.KEY, h)[0].any()
    assert toy.quick(Head(toy.SPATIAL, 4, zero=False).init_with_output)(toy.KEY, h)[0].any()


def test_bfloat16_is_close_to_float32():
    unet, z = UNet(toy.SPATIAL), toy.normal(2, *toy.LATENTS["spatial"])
    params = toy.init(unet, z, toy.T, toy.CONTEXT)
    full = toy.apply(unet, params, z, toy.T, toy.CONTEXT)
    half = toy.apply(unet.clone(compute=Compute(jnp.bfloat16)), params, z, toy.T, toy.CONTEXT)
    assert 0 < np.abs(half - full).max() < 0.05 * np.abs(full).max()


def test_for_an_image_temporal_layers_have_no_effect():
    image, video = (toy.normal(2, *toy.LATENTS[kind]) for kind in ("spatial", "video"))
    unet = UNet(toy.VIDEO)
    params = toy.init(unet, video, toy.T, toy.CONTEXT)
    flat = traverse_util.flatten_dict(params)
    spatial = {path: leaf for path, leaf in flat.items() if not any(name.startswith("temporal") for name in path)}
    shapes = jax.eval_shape(UNet(toy.SPATIAL).init, jax.random.key(0), image, toy.T, toy.CONTEXT)["params"]
    assert set(spatial) == set(traverse_util.flatten_dict(shapes)) < set(flat)
    np.testing.assert_array_equal(
        toy.apply(unet, params, image, toy.T, toy.CONTEXT),
        toy.apply(UNet(toy.SPATIAL), traverse_util.unflatten_dict(spatial), image, toy.T, toy.CONTEXT),
    )


def test_the_aliased_skip_changes_the_prediction():
    unet, z = UNet(toy.VECTOR), toy.normal(2, *toy.LATENTS["vector"])
    params = toy.init(unet, z, toy.T, toy.CONTEXT)
    true = toy.apply(unet, params, z, toy.T, toy.CONTEXT)
    aliased = toy.apply(unet, params, z, toy.T, toy.CONTEXT, alias_skip=True)
    assert np.abs(true - aliased).max() > 1e-3


def test_connect_is_called_after_every_step_with_cross_modal_attention():
    calls = []

    def connect(place, h):
        calls.append((place, h.shape))
        return h

    z = jnp.zeros(toy.LATENTS["spatial"])
    sites = Connect(frozenset(step.place for step in cross_modal_steps(toy.SPATIAL)), connect)
    jax.eval_shape(lambda: UNet(toy.SPATIAL).init(jax.random.key(0), z, toy.T, toy.CONTEXT, sites))
    assert calls == [
        (("inputs", 1), (toy.B, 4, 4, 32)),
        (("outputs", 2), (toy.B, 4, 4, 32)),
        (("outputs", 3), (toy.B, 4, 4, 32)),
    ]


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (toy.SPATIAL, (2, 4, 5, 4), "4x5 cannot be halved evenly: each side must be a multiple of 2"),
        (toy.SPATIAL, (2, 3, 4, 4, 4), "a latent of 5 axes"),
        (toy.VECTOR, (2, 4, 4, 10), "a latent of 4 axes"),
        (toy.SEQUENCE, (2, 4, 4, 5), "a latent of 4 axes; a sequence network"),
        (toy.SEQUENCE, (2, 5, 5), "5 cannot be halved evenly: each side must be a multiple of 2"),
        (toy.SPATIAL, (2, 4, 4, 3), "a latent of 3 channels; the network takes 4"),
        (dataclasses.replace(toy.SPATIAL, context_width=9), (2, 4, 4, 4), "tokens of width 16; .* width 9"),
    ],
)
def test_a_latent_or_context_of_other_sizes_raises(config, shape, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(UNet(config).init, jax.random.key(0), jnp.zeros(shape), toy.T, toy.CONTEXT)
