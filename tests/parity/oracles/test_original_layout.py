"""Stable Diffusion's original layout against diffusers' own converter of it.

What we write in the original layout, the converter renames as we write it for diffusers, bit for bit.
"""
# ruff: noqa: E402 (what needs torch is imported once it is known to be there)

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from codi_jax.encoders.autokl import AutoKL, AutoKLConfig
from codi_jax.interop import autokl, unet
from codi_jax.interop.diffusers_names import autokl_rules, unet_rules
from codi_jax.interop.names import to_release
from codi_jax.nn.config import UNetConfig
from codi_jax.nn.unet import UNet
from codi_jax.types import Tokens
from tests.parity.oracles.oracle import target

# Stable Diffusion's levels, blocks and attention; widths do not matter to names.
UNET = UNetConfig(kind="spatial", latent_channels=4, channels=8, groups=4, heads=2, context_width=6)
CODEC = AutoKLConfig(in_channels=3, channels=8, mult=(1, 2, 4, 4), blocks=2, z_channels=4, embed_dim=4, groups=4)


def random(shapes):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)


def converted(converter, state, prefix, **config):
    given = {prefix + key: torch.from_numpy(value) for key, value in state.items()}
    return {key: value.numpy() for key, value in converter(given, config=config).items()}


def check_same(found, want, keys):
    assert len(want) == keys
    assert found.keys() == want.keys()
    for key, value in want.items():
        np.testing.assert_array_equal(found[key].reshape(value.shape), value, key)


def test_unet():
    tokens = Tokens(jnp.zeros((1, 2, 6)), jnp.zeros((1, 2)))
    params = random(target(UNet(UNET), jnp.zeros((1, 8, 8, 4)), jnp.zeros(1), tokens))
    state = to_release(params, unet.body_rules(dataclasses.replace(UNET, temporal=False)))
    found = converted(convert_ldm_unet_checkpoint, state, "model.diffusion_model.", layers_per_block=2)
    check_same(found, to_release(params, unet_rules(UNET)), 686)


def test_codec():
    params = random(target(AutoKL(CODEC), jnp.zeros((1, 8, 8, 3))))
    state = to_release(params, autokl.RULES)
    levels = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    found = converted(convert_ldm_vae_checkpoint, state, "first_stage_model.", layers_per_block=2, **levels)
    check_same(found, to_release(params, autokl_rules(CODEC)), 248)
