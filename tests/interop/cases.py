"""Small components of every kind, and a file of every public family."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from codi_jax.encoders.autokl import AutoKL, AutoKLConfig
from codi_jax.encoders.bert import BertConfig
from codi_jax.encoders.clap import CLAPAudio, CLAPAudioConfig
from codi_jax.encoders.clip import CLIPText, CLIPTextConfig, CLIPVision, CLIPVisionConfig
from codi_jax.encoders.gpt2 import GPT2Config
from codi_jax.encoders.hifigan import HiFiGAN, HiFiGANConfig
from codi_jax.encoders.inception import InceptionConfig
from codi_jax.encoders.optimus import Optimus, OptimusConfig
from codi_jax.encoders.vggish import VGGishConfig
from codi_jax.interop import autokl, clap, inception, unet, vggish
from codi_jax.interop.names import LAYOUTS, NameTable
from codi_jax.nn.config import UNetConfig
from codi_jax.nn.unet import UNet
from codi_jax.types import Tokens
from tests.interop import files

LEVELS = {
    "multipliers": (1, 2),
    "blocks": (1, 1),
    "attention_levels": (True, False),
    "cross_modal_levels": (True, False),
}
CONFIGS = {
    "vision_unet": UNetConfig(
        kind="spatial", latent_channels=4, channels=8, groups=4, heads=2, context_width=6, temporal=True, **LEVELS
    ),
    "vision_codec": AutoKLConfig(
        in_channels=3, channels=8, mult=(1, 2, 3), blocks=1, z_channels=4, embed_dim=4, groups=4
    ),
    "audio_codec": AutoKLConfig(in_channels=1, channels=8, mult=(1, 2), blocks=1, z_channels=2, embed_dim=2, groups=4),
    "clip_text": CLIPTextConfig(vocab=11, width=8, layers=2, heads=2, feed_forward=12, positions=7, projection=6),
    "clip_vision": CLIPVisionConfig(
        image_size=8, patch=4, width=8, layers=2, heads=2, feed_forward=12, projection=6, temporal=True
    ),
    "clap_audio": CLAPAudioConfig(
        mel_bins=8,
        spec_size=32,
        patch_size=4,
        patch_stride=(4, 4),
        embed_dim=4,
        depths=(2, 1),
        num_heads=(1, 2),
        window=4,
        projection=5,
    ),
    "text_codec": OptimusConfig(
        encoder=BertConfig(vocab=9, width=8, layers=2, heads=2, feed_forward=12, positions=10),
        decoder=GPT2Config(vocab=16, width=8, layers=2, heads=2, feed_forward=32, positions=10),
        latent=3,
        bos=13,
        eos=14,
        pad=15,
    ),
    "vocoder": HiFiGANConfig(
        mels=4, channels=8, rates=(2, 2), kernels=(4, 4), res_kernels=(3, 5), res_dilations=((1, 3), (1, 3))
    ),
    "inception": InceptionConfig(classes=5, divisor=16),
    "vggish": VGGishConfig(channels=(2, 3, 4, 5), hidden=7, embedding=6),
}


def traced(model, *examples, **options):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), *examples, **options))["params"]


def unet_shapes(config, frames=()):
    """The parameters of a U-Net; with frames, its temporal layers too."""
    tokens = Tokens(jnp.zeros((1, 2, config.context_width)), jnp.zeros((1, 2)))
    z = jnp.zeros((1, *frames, config.reduction, config.reduction, config.latent_channels))
    return traced(UNet(config), z, jnp.zeros(1), tokens)


@functools.cache
def targets():
    """Every component at the sizes above, the vision components with temporal layers."""
    ids = jnp.zeros((1, 3), int)
    return {
        "vision_unet": unet_shapes(CONFIGS["vision_unet"], (2,)),
        "vision_codec": traced(AutoKL(CONFIGS["vision_codec"]), jnp.zeros((1, 4, 4, 3))),
        "audio_codec": traced(AutoKL(CONFIGS["audio_codec"]), jnp.zeros((1, 4, 4, 1))),
        "clip_text": traced(CLIPText(CONFIGS["clip_text"]), ids),
        "clip_vision": traced(CLIPVision(CONFIGS["clip_vision"]), jnp.zeros((1, 2, 8, 8, 3))),
        "clap_audio": traced(CLAPAudio(CONFIGS["clap_audio"]), jnp.zeros((1, 4, 8))),
        "text_codec": traced(Optimus(CONFIGS["text_codec"]), ids, ids),
        "vocoder": traced(HiFiGAN(CONFIGS["vocoder"]), jnp.zeros((1, 3, 4))),
        "inception": inception.target(CONFIGS["inception"]),
        "vggish": vggish.vggish_shapes(CONFIGS["vggish"]),
    }


def their_shapes(rules, shapes):
    """The keys and shapes in the checkpoint for a tree of shapes; no arrays are allocated."""
    table, out = NameTable(rules, "ours", "theirs"), {}
    for path, leaf in traverse_util.flatten_dict(shapes, sep="/").items():
        rule, key = table.matches(path)[0]
        out[key] = LAYOUTS[rule.layout].to_theirs(np.broadcast_to(np.float32(0), leaf.shape)).shape
    return out


@functools.cache
def original_unet():
    config = dataclasses.replace(CONFIGS["vision_unet"], temporal=False)
    return their_shapes(unet.body_rules(config), unet_shapes(config))


UNET = files.diffusers_unet((8, 16), (1, 0), 1, 6)
CODEC = files.diffusers_autokl((8, 16, 24), 1)
TEXT, VISION = files.clip_text(8, 2, 12, 11, 7), files.clip_vision(8, 2, 12, 4, 4)
TEXT_OUT, VISION_OUT = (
    files.layer("text_projection", 6, 8, bias=False),
    files.layer("visual_projection", 6, 8, bias=False),
)
CLAP = files.clap(4, (2, 1), (1, 2), 4, 8, 5)
BERT, GPT2, GAN = files.bert(8, 2, 12, 9, 10), files.gpt2(8, 2, 13, 10), files.hifigan(8, (4, 4), 4, (3, 5), 2)


@functools.cache
def original_codec():
    shapes = traced(AutoKL(CONFIGS["vision_codec"]), jnp.zeros((1, 4, 4, 3)))
    return their_shapes(autokl.RULES, shapes)


@functools.cache
def audio_codec():
    """The autoencoder of spectrograms, whose layout is that of images."""
    shapes = traced(AutoKL(CONFIGS["audio_codec"]), jnp.zeros((1, 4, 4, 1)))
    return their_shapes(autokl.RULES, shapes)


def stable_diffusion():
    """One file with all three networks, the schedule and an EMA."""
    out = files.under("model.diffusion_model.", original_unet()) | files.under("first_stage_model.", original_codec())
    out |= files.under("cond_stage_model.transformer.", TEXT)
    return out | {"betas": (9,), "sqrt_one_minus_alphas_cumprod": (9,), "model_ema.diffusion_modelout2bias": (4,)}


def clap_of_laion():
    """LAION's audio tower, with the buffers and heads that are not read."""
    shapes = traced(CLAPAudio(CONFIGS["clap_audio"]), jnp.zeros((1, 4, 8)))
    out = their_shapes(clap.RULES, shapes)
    out |= {"text_branch.embeddings.position_ids": (1, 9), "text_projection.0.bias": (5,), "logit_scale_a": ()}
    out |= {"audio_branch.layers.0.blocks.1.attn_mask": (4, 4, 4), "audio_branch.tscam_conv.bias": (2,)}
    out |= {
        "audio_branch.layers.0.blocks.0.attn.relative_position_index": (4, 4),
        "text_transform.sequential.0.bias": (5,),
    }
    out |= {"audio_branch.bn0.num_batches_tracked": (), "audio_branch.logmel_extractor.melW": (9, 8)}
    return out | {"audio_transform.sequential.0.weight": (5, 5)}


def laion():
    """LAION's checkpoint of the same tower, with the prefixes and the optimizer state of its training."""
    out = files.under("state_dict.module.", clap_of_laion())
    return out | {"optimizer.state.0.exp_avg": (4,)}


def audioldm():
    """One file with autoencoder, vocoder, CLAP, and the U-Net, which differs from ours."""
    out = files.under("first_stage_model.", audio_codec() | files.under("vocoder.", GAN))
    out |= files.under("cond_stage_model.model.", clap_of_laion())
    out |= {
        "model.diffusion_model.film_emb.weight": (8, 5),
        "model.diffusion_model.input_blocks.0.0.weight": (8, 4, 3, 3),
    }
    out |= {"cond_stage_model.mel_transform.spectrogram.window": (9,), "scale_factor": (), "betas": (9,)}
    return out | {"model_ema.decay": (), "model_ema.diffusion_modelout2bias": (4,)}


def original_bert(shapes):
    """BERT with the names of the first PyTorch checkpoints of Google's weights."""
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    out = {}
    for key, shape in shapes.items():
        for new, old in names.items():
            key = key.replace(new, old)
        out[f"bert.{key}"] = shape
    return out | {"cls.predictions.bias": (9,), "cls.seq_relationship.weight": (2, 8)}


def normed(shapes, *halves):
    """A generator with weight norms: for every kernel g, one norm per index of the first axis, and v, a direction."""
    out = {}
    for key, shape in shapes.items():
        stem, kernel = key.removesuffix(".weight"), key.endswith(".weight")
        pair = {f"{stem}.{halves[0]}": (shape[0], 1, 1), f"{stem}.{halves[1]}": shape} if kernel else {}
        out |= pair or {key: shape}
    return out


def of_transformers(shapes):
    return {key.replace("ups.", "upsampler."): shape for key, shape in shapes.items()}


# file -> (index of its family, its keys and shapes, component -> pattern of the leaves that it does not hold)
TEMPORAL, ALL_BUT_BERT = r".*/temporal(_[01])?/", "moments/|decoder/"
ALL_BUT_GPT2 = "encoder/|moments/|decoder/(memory|latent)/"
NOTHING = "(?!)"
FILES = {
    "AudioLDM": (0, audioldm, {"audio_codec": NOTHING, "vocoder": NOTHING, "clap_audio": NOTHING}),
    "SD": (1, stable_diffusion, {"vision_unet": TEMPORAL, "vision_codec": NOTHING, "clip_text": "projection/"}),
    "SD, from its training": (
        1,
        lambda: files.under("state_dict.", stable_diffusion()),
        {"vision_unet": TEMPORAL, "vision_codec": NOTHING, "clip_text": "projection/"},
    ),
    "U-Net, original": (2, original_unet, {"vision_unet": TEMPORAL}),
    "U-Net, in a model": (
        2,
        lambda: files.under("model.diffusion_model.", original_unet()),
        {"vision_unet": TEMPORAL},
    ),
    "U-Net": (3, lambda: UNET, {"vision_unet": TEMPORAL}),
    "VAE, original": (4, lambda: original_codec() | {"loss.logvar": ()}, {"vision_codec": NOTHING}),
    "VAE, of AudioLDM": (
        4,
        lambda: audio_codec() | files.under("vocoder.", GAN),
        {"audio_codec": NOTHING, "vocoder": NOTHING},
    ),
    "VAE": (5, lambda: CODEC, {"vision_codec": NOTHING}),
    "VAE, older": (
        5,
        lambda: files.diffusers_autokl((8, 16, 24), 1, names="query key value proj_attn"),
        {"vision_codec": NOTHING},
    ),
    "CLIP": (
        6,
        lambda: TEXT | VISION | TEXT_OUT | VISION_OUT | {"logit_scale": ()},
        {"clip_text": NOTHING, "clip_vision": TEMPORAL},
    ),
    "CLIP text, projected": (7, lambda: TEXT | TEXT_OUT, {"clip_text": NOTHING}),
    "CLIP text": (8, lambda: TEXT, {"clip_text": "projection/"}),
    "CLIP text, bare": (
        8,
        lambda: {k.removeprefix("text_model."): v for k, v in TEXT.items()},
        {"clip_text": "projection/"},
    ),
    "CLIP vision, projected": (9, lambda: VISION | VISION_OUT, {"clip_vision": TEMPORAL}),
    "CLIP vision": (10, lambda: VISION, {"clip_vision": TEMPORAL + "|projection/"}),
    "CLIP vision, bare": (
        10,
        lambda: {k.removeprefix("vision_model."): v for k, v in VISION.items()},
        {"clip_vision": TEMPORAL + "|projection/"},
    ),
    "CLIP, OpenAI": (
        11,
        lambda: files.open_clip(8, 2, 12, 11, 7, 4, 4, 6) | {"input_resolution": (), "vocab_size": ()},
        {"clip_text": NOTHING, "clip_vision": TEMPORAL},
    ),
    "CLIP, open_clip with a text module": (
        11,
        lambda: files.open_clip(8, 2, 12, 11, 7, 4, 4, 6, "text."),
        {"clip_text": NOTHING, "clip_vision": TEMPORAL},
    ),
    "CLAP": (12, lambda: CLAP, {"clap_audio": NOTHING}),
    "CLAP, LAION": (13, laion, {"clap_audio": NOTHING}),
    "BERT": (14, lambda: BERT, {"text_codec": ALL_BUT_BERT}),
    "BERT, older": (14, lambda: original_bert(BERT), {"text_codec": ALL_BUT_BERT}),
    "GPT-2": (15, lambda: GPT2, {"text_codec": ALL_BUT_GPT2}),
    "GPT-2, prefixed": (
        15,
        lambda: files.under("transformer.", GPT2),
        {"text_codec": ALL_BUT_GPT2},
    ),
    "HiFi-GAN": (
        16,
        lambda: files.under("generator.", normed(GAN, "weight_g", "weight_v")),
        {"vocoder": NOTHING},
    ),
    "HiFi-GAN, fused": (16, lambda: GAN, {"vocoder": NOTHING}),
    "HiFi-GAN, transformers": (
        16,
        lambda: of_transformers(normed(GAN, "parametrizations.weight.original0", "parametrizations.weight.original1")),
        {"vocoder": NOTHING},
    ),
    "Inception": (17, lambda: files.inception(16, 5), {"inception": NOTHING}),
    "VGGish": (18, lambda: files.vggish((2, 3, 4, 5), 7, 6), {"vggish": NOTHING}),
}
