"""`encoders.CLAPAudio` ↔ the public CLAP with the audio tower HTSAT: keys below `clap.model.`."""

from collections.abc import Mapping
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.encoders.clap import CLAPAudioConfig
from codi_jax.interop.names import Rule, affine, at, norm

_BLOCK = [
    *norm("norm{n}", "norm{n}"),
    *affine("mlp.fc{n}", "fc{n}"),
    *affine("attn.qkv", "attention/qkv"),
    *affine("attn.proj", "attention/out"),
    Rule("attn.relative_position_bias_table", "attention/table"),
]

_BRANCH = [
    *norm("bn0", "norm_mel"),
    Rule("bn0.running_{what:mean|var}", "norm_mel/{what:mean|var}"),
    *affine("patch_embed.proj", "patch", "conv2d"),
    *norm("patch_embed.norm", "norm_in"),
    *at("layers.{stage}.blocks.{block}", "stage_{stage}_block_{block}", _BLOCK),
    *norm("layers.{stage}.downsample.norm", "stage_{stage}_merge/norm"),
    *affine("layers.{stage}.downsample.reduction", "stage_{stage}_merge/reduction", bias=False),
    *norm("norm", "norm"),
]

RULES: list[Rule] = [
    *at("audio_branch", "", _BRANCH),
    *affine("audio_projection.0", "projection1"),
    *affine("audio_projection.2", "projection2"),
]

# Pattern of keys that are not read -> reason.
RECOMPUTED = {
    r"audio_branch\.layers\.[0-9]+\.blocks\.[0-9]+\.attn_mask": "the attention mask of shifted windows",
    r"audio_branch\.layers\.[0-9]+\.blocks\.[0-9]+\.attn\.relative_position_index": "an index of relative positions",
    r"audio_branch\.(spectrogram_extractor|logmel_extractor)\..*": (
        "a Fourier basis or filter bank, which the mel front end computes"
    ),
}
UNREAD = {
    r"audio_branch\.bn0\.num_batches_tracked": "a training step counter",
    r"audio_branch\.(tscam_conv|head)\..*": "the AudioSet classifier, which prompts do not use",
    r"audio_transform\..*": "a second head, which prompts do not use",
    r"(text_.*|logit_scale_.)": "CLAP's text tower; text prompts use CLIP's",
}
IGNORE = {**RECOMPUTED, **UNREAD}

# Why towers with further layers are refused.
FUSED = "CLAP with fusion of several views of a long audio (enable_fusion) is not supported, only CLAP without"

# Fields that change the structure, with their value in the public checkpoints.
_FIXED = {
    "ape": False,
    "patch_norm": True,
    "qkv_bias": True,
    "qk_scale": None,
    "norm_before_mlp": "ln",
    "enable_fusion": False,
}


def config(htsat: Mapping[str, Any], projection: int) -> CLAPAudioConfig:
    """Translates the config fields of the release's tower.

    Args:
      htsat: the fields.
      projection: width of the shared space.

    Raises:
      ConfigError: a structure that no public checkpoint has.
    """
    for name, value in _FIXED.items():
        if htsat.get(name, value) != value:
            raise ConfigError(f"{name}={htsat[name]!r} is not supported: no public audio tower has it")
    return CLAPAudioConfig(
        mel_bins=htsat["config"]["mel_bins"],
        spec_size=htsat["spec_size"],
        patch_size=htsat["patch_size"],
        patch_stride=tuple(htsat["patch_stride"]),
        embed_dim=htsat["embed_dim"],
        depths=tuple(htsat["depths"]),
        num_heads=tuple(htsat["num_heads"]),
        window=htsat["window_size"],
        projection=projection,
        mlp_ratio=float(htsat.get("mlp_ratio", 4.0)),
    )
