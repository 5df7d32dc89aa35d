"""Networks of sequences against those of maps whose columns are all equal.

A 3×3 kernel that is zero outside of its middle column convolves every column by itself. So a network of maps with such
kernels does to every column of a map what the network of sequences does to the sequence: means over positions, halving
and doubling, and attention over equal tokens are the same for one column and for several equal ones.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.nn import Denoiser, EnvironmentEncoder, UNet
from codi_jax.nn.conv import Conv3
from codi_jax.nn.layout import cross_modal_steps
from codi_jax.nn.unet import Connect
from codi_jax.parallel import MeshConfig, ShardingConfig, make_mesh, paths, resolve
from codi_jax.parallel.flops import count
from tests.nn import toy

Z = toy.normal(2, *toy.LATENTS["sequence"])
ENVIRONMENT = toy.tokens(4, 3, toy.E)


def as_map(z):
    """A map [B, L, 2, C] of two equal columns."""
    return jnp.repeat(z[:, :, None], 2, axis=2)


def middle_columns(params):
    """Parameters of a network of maps from those of a network of sequences."""
    return jax.tree.map(
        lambda x: jnp.zeros((3, *x.shape)).at[:, 1].set(x).reshape(3, 3, *x.shape[1:]) if x.ndim == 3 else x, params
    )


def test_middle_columns():
    kernel = toy.normal(0, 3, 2, 5)
    made = middle_columns(kernel)
    assert made.shape == (3, 3, 2, 5) and not made[:, [0, 2]].any()
    np.testing.assert_array_equal(made[:, 1], kernel)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_a_convolution_is_the_sum_over_three_neighbours(length, stride):
    x = toy.normal(0, 2, length, 3)
    params = toy.init(Conv3(4, stride=stride), x)
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    want = [
        sum(padded[:, i + tap] @ np.asarray(params["kernel"][tap]) for tap in range(3))
        for i in range(0, length, stride)
    ]
    got = Conv3(4, stride=stride).apply({"params": params}, x)
    np.testing.assert_allclose(got, np.stack(want, 1) + np.asarray(params["bias"]), atol=1e-5)


def test_a_denoiser_does_to_a_sequence_what_one_of_maps_does_to_equal_columns():
    sequence = Denoiser(toy.SEQUENCE, cross_width=toy.E)
    maps = Denoiser(dataclasses.replace(toy.SEQUENCE, kind="spatial"), cross_width=toy.E)
    params = toy.init(sequence, Z, toy.T, toy.CONTEXT, ENVIRONMENT)
    out = toy.apply(sequence, params, Z, toy.T, toy.CONTEXT, ENVIRONMENT)
    want = toy.apply(maps, middle_columns(params), as_map(Z), toy.T, toy.CONTEXT, ENVIRONMENT)
    assert np.abs(out).max() > 0.1
    np.testing.assert_allclose(want, as_map(out), atol=2e-5)


@pytest.mark.parametrize("tokens", ["pooled", "map"])
def test_an_environment_encoder_does_to_a_sequence_what_one_of_maps_does_to_equal_columns(tokens):
    config, emb = dataclasses.replace(toy.SEQUENCE_ENVIRONMENT, tokens=tokens), toy.normal(1, toy.B, 128)
    params = toy.init(EnvironmentEncoder(config), Z, emb)
    out = toy.apply(EnvironmentEncoder(config), params, Z, emb)
    maps = EnvironmentEncoder(dataclasses.replace(config, kind="spatial"))
    want = toy.apply(maps, middle_columns(params), as_map(Z), emb)  # the halving of two columns leaves one
    assert out.shape == (toy.B, 1 if tokens == "pooled" else 3, toy.E)
    np.testing.assert_allclose(out, want, atol=2e-5)


def test_every_level_halves_the_length_and_the_way_up_doubles_it():
    levels = dict.fromkeys(("attention_levels", "cross_modal_levels"), (True, True))
    shapes = []

    def connect(place, h):
        shapes.append((place, h.shape))
        return h

    config = dataclasses.replace(toy.SEQUENCE, **levels)
    sites = Connect(frozenset(step.place for step in cross_modal_steps(config)), connect)
    jax.eval_shape(lambda: UNet(config).init(toy.KEY, Z, toy.T, toy.CONTEXT, sites))
    assert shapes == [
        (("inputs", 1), (toy.B, 6, 32)),
        (("inputs", 3), (toy.B, 3, 64)),
        (("outputs", 0), (toy.B, 3, 64)),
        (("outputs", 1), (toy.B, 6, 64)),  # after the upsampling
        (("outputs", 2), (toy.B, 6, 32)),
        (("outputs", 3), (toy.B, 6, 32)),
    ]


def test_its_operations_are_counted():
    """Three taps at every position but at the ends, where padding is not counted."""
    x, conv = jnp.zeros((2, 8, 5)), Conv3(7, stride=2)
    params = jax.eval_shape(conv.init, toy.KEY, x)
    program = jax.make_jaxpr(conv.apply)(params, x)
    assert count(program).total == 2 * 2 * (2 + 3 + 3 + 3) * 5 * 7


def test_fsdp_splits_its_kernels_as_those_of_maps():
    def splits(config, z):
        shapes = jax.eval_shape(UNet(config).init, toy.KEY, z, toy.T, toy.CONTEXT)["params"]
        shardings, table = resolve(shapes, make_mesh(MeshConfig(data=2, fsdp=4)), ShardingConfig(fsdp_min_bytes=4096))
        specs = {path: sharding.spec for path, sharding in paths.flatten(shardings).items()}
        return table.sharded_fraction, {p: [axis for axis in spec if axis is not None] for p, spec in specs.items()}

    fraction, mine = splits(toy.SEQUENCE, Z)
    _, of_maps = splits(dataclasses.replace(toy.SEQUENCE, kind="spatial"), as_map(Z))
    assert fraction == 1 and mine.keys() == of_maps.keys()
    assert mine["outputs_0/residual/layer_in/kernel"] == of_maps["outputs_0/residual/layer_in/kernel"] == ["fsdp"]
