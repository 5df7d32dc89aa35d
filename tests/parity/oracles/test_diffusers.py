"""U-Net and autoencoder of Stable Diffusion 1.x against diffusers' own, at small sizes."""
# ruff: noqa: E402 (what needs torch is imported once it is known to be there)

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import AutoencoderKL, UNet2DConditionModel

from codi_jax.encoders.autokl import AutoKL, AutoKLConfig
from codi_jax.interop.diffusers_names import autokl_rules, unet_rules
from codi_jax.interop.names import to_release
from codi_jax.nn.config import UNetConfig
from codi_jax.nn.unet import UNet
from codi_jax.types import Tokens
from tests.parity.oracles.oracle import check, loaded, run, shaken, state, target

UNET = UNetConfig(
    kind="spatial",
    latent_channels=4,
    channels=32,
    context_width=24,
    multipliers=(1, 2, 3),
    blocks=(2, 2, 2),
    attention_levels=(True, True, False),
    cross_modal_levels=(True, True, False),
)
CODEC = AutoKLConfig(in_channels=3, channels=32, mult=(1, 2, 3), blocks=2, z_channels=4, embed_dim=4)


def unet():
    """Their U-Net of our config, with Stable Diffusion's other settings, all of which are the class's defaults."""
    model = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, 96),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        attention_head_dim=8,  # heads, in fact: diffusers' known misnomer
        norm_num_groups=32,
        norm_eps=1e-5,
        downsample_padding=1,
        act_fn="silu",
        flip_sin_to_cos=True,
        freq_shift=0,
        center_input_sample=False,
        cross_attention_dim=24,
    )
    return shaken(model)


def unet_params(weights):
    model = UNet(UNET)
    context = Tokens(jnp.zeros((1, 2, 24)), jnp.zeros((1, 2)))
    shapes = target(model, jnp.zeros((1, 8, 8, 4)), jnp.zeros(1), context)
    return model, loaded(weights, "vision_unet", UNET, shapes, "Stable Diffusion 1.x, U-Net of diffusers")


# The sinusoids have phases t·f, whose rounding grows with t; see `nn.embeddings.frequencies`.
@pytest.mark.parametrize(("t", "relative"), [((0, 3), 1e-5), ((981, 120), 5e-5)])
def test_unet(t, relative):
    oracle = unet()
    model, params = unet_params(state(oracle))
    rng = np.random.default_rng(1)
    z = rng.standard_normal((2, 8, 16, 4)).astype(np.float32)
    context = rng.standard_normal((2, 7, 24)).astype(np.float32)
    with torch.no_grad():
        want = oracle(torch.from_numpy(z).movedim(-1, 1), torch.tensor(t), torch.from_numpy(context)).sample
    got = run(model, params, z, np.array(t), Tokens(context, np.zeros((2, 7), np.float32)))
    check(got, want.movedim(1, -1), relative)


def test_unet_goes_back():
    weights = state(unet())
    back = to_release(unet_params(weights)[1], unet_rules(UNET))
    assert back.keys() == weights.keys()
    for key, value in back.items():
        np.testing.assert_array_equal(value, weights[key], key)


def codec():
    model = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
        act_fn="silu",
    )
    return shaken(model)


def codec_params(weights):
    model = AutoKL(CODEC)
    shapes = target(model, jnp.zeros((1, 16, 16, 3)))
    return model, loaded(weights, "vision_codec", CODEC, shapes, "KL autoencoder of diffusers")


def older(weights):
    """The names that diffusers gave to the attention before 2023."""
    names = {"group_norm": "group_norm", "to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    out = {}
    for key, value in weights.items():
        for new, old in names.items():
            key = key.replace(f"mid_block.attentions.0.{new}.", f"mid_block.attentions.0.{old}.")
        out[key] = value
    assert out.keys() != weights.keys()
    return out


@pytest.mark.parametrize("spelling", [dict, older])
def test_codec(spelling):
    oracle = codec()
    model, params = codec_params(spelling(state(oracle)))
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (2, 16, 24, 3)).astype(np.float32)
    z = rng.standard_normal((2, 4, 6, 4)).astype(np.float32)
    with torch.no_grad():
        posterior = oracle.encode(torch.from_numpy(x).movedim(-1, 1)).latent_dist
        decoded = oracle.decode(torch.from_numpy(z).movedim(-1, 1)).sample
    mean, logvar = run(model, params, x, method="encode")
    check(mean, posterior.mean.movedim(1, -1))
    check(logvar, posterior.logvar.movedim(1, -1))
    check(run(model, params, z, method="decode"), decoded.movedim(1, -1))


def test_codec_goes_back_in_the_newer_spelling():
    weights = state(codec())
    back = to_release(codec_params(older(weights))[1], autokl_rules(CODEC))
    assert back.keys() == weights.keys()
    for key, value in back.items():
        np.testing.assert_array_equal(value, weights[key], key)
