"""`encoders.AutoKL` ↔ the public KL autoencoders: keys below `autokl.` (images) or `audioldm.` (spectrograms)."""

from collections.abc import Mapping
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.encoders.autokl import AutoKLConfig
from codi_jax.interop.names import Rule, affine, norm

_SIDE = "{side:encoder|decoder}"
_BLOCK = (_SIDE + ".{way:down|up}.{level}.block.{block}", _SIDE + "/{way:down|up}_{level}_block_{block}")
_MIDDLE = (_SIDE + ".mid.block_{block}", _SIDE + "/mid_block_{block}")
_ATTENTION = (_SIDE + ".mid.attn_1", _SIDE + "/mid_attention")
_RESIZE = "{how:downsample|upsample}"


def _res(theirs: str, ours: str) -> list[Rule]:
    return [
        *norm(theirs + ".norm{n}", ours + "/norm{n}"),
        *affine(theirs + ".conv{n}", ours + "/conv{n}", "conv2d"),
        *affine(theirs + ".nin_shortcut", ours + "/shortcut", "conv2d"),
    ]


RULES: list[Rule] = [
    *_res(*_BLOCK),
    *_res(*_MIDDLE),
    *norm(_ATTENTION[0] + ".norm", _ATTENTION[1] + "/norm"),
    *affine(_ATTENTION[0] + ".{part:[qkv]}", _ATTENTION[1] + "/{part:[qkv]}", "conv2d"),
    *affine(_ATTENTION[0] + ".proj_out", _ATTENTION[1] + "/out", "conv2d"),
    *affine(
        _SIDE + ".{way:down|up}.{level}." + _RESIZE + ".conv", _SIDE + "/{way:down|up}_{level}_" + _RESIZE, "conv2d"
    ),
    *affine(_SIDE + ".conv_{end:in|out}", _SIDE + "/conv_{end:in|out}", "conv2d"),
    *norm(_SIDE + ".norm_out", _SIDE + "/norm_out"),
    *affine("{where:quant|post_quant}_conv", "{where:quant|post_quant}", "conv2d"),
]

# Pattern of keys that are not read -> reason: buffers in the front end of the spectrogram autoencoder.
RECOMPUTED = {r"fn_STFT\..*": "a Fourier basis or filter bank, which the mel front end computes"}
IGNORE = RECOMPUTED


def config(ddconfig: Mapping[str, Any], embed_dim: int) -> AutoKLConfig:
    """Translates the config fields of the release.

    Raises:
      ConfigError: a structure that no public checkpoint has.
    """
    if ddconfig["attn_resolutions"] or not ddconfig["double_z"] or ddconfig["in_channels"] != ddconfig["out_ch"]:
        raise ConfigError(
            "not supported: an autoencoder with attention outside the middle block, without double_z or with different "
            "numbers of input and output channels; no public checkpoint has these"
        )
    return AutoKLConfig(
        in_channels=ddconfig["in_channels"],
        channels=ddconfig["ch"],
        mult=tuple(ddconfig["ch_mult"]),
        blocks=ddconfig["num_res_blocks"],
        z_channels=ddconfig["z_channels"],
        embed_dim=embed_dim,
    )
