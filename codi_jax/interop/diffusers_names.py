"""`nn.UNet` and `encoders.AutoKL` ↔ diffusers' `UNet2DConditionModel` and `AutoencoderKL`.

diffusers numbers levels in the order in which they run, so block 0 of the up path is our coarsest level, and it numbers
residual blocks, attention and resampling of a level separately. The tables are therefore built from the configs.

The U-Net is that of Stable Diffusion 1.x: 1×1 convolutions around every transformer, one layer per transformer, the
same number of heads on every level.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.encoders.autokl import AutoKLConfig
from codi_jax.interop.names import Rule, affine, at, norm
from codi_jax.interop.unet import TRANSFORMER as TRANSFORMER  # diffusers uses the same names
from codi_jax.nn.config import UNetConfig
from codi_jax.nn.layout import input_steps, output_steps

_RESIDUAL = [
    *norm("norm1", "norm_in"),
    *affine("conv1", "layer_in", "conv2d"),
    *affine("time_emb_proj", "emb"),
    *norm("norm2", "norm_out"),
    *affine("conv2", "layer_out", "conv2d"),
    *affine("conv_shortcut", "skip", "pointwise2"),
]


def unet_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state, unchanged.

    Raises:
      ConfigError: it is of Stable Diffusion 2 or later, whose heads have a fixed width, so that their number differs
        between levels. Shapes do not show that, but these versions have matrices instead of 1×1 convolutions around a
        transformer.
    """
    for key, value in state.items():
        if key.endswith(".proj_in.weight") and np.ndim(value) == 2:
            raise ConfigError(f"{key}: a matrix, as in the U-Net of Stable Diffusion 2; only 1.x is supported")
    return dict(state)


def unet_rules(config: UNetConfig) -> list[Rule]:
    """The table of a U-Net without temporal layers, which diffusers' does not have.

    Raises:
      ConfigError: a U-Net of vectors, which diffusers does not have.
    """
    if config.kind != "spatial":
        raise ConfigError(f"kind: diffusers' U-Net is spatial and cannot be read into one of kind {config.kind!r}")
    rules = [
        *affine("conv_in", "inputs_0/stem", "conv2d"),
        *affine("time_embedding.linear_1", "time/layer_in"),
        *affine("time_embedding.linear_2", "time/layer_out"),
    ]
    level = block = 0
    for step in input_steps(config)[1:]:
        theirs, ours = f"down_blocks.{level}", "{}_{}".format(*step.place)
        if step.content == "down":
            rules += affine(f"{theirs}.downsamplers.0.conv", f"{ours}/down", "conv2d")
            level, block = level + 1, 0
            continue
        rules += at(f"{theirs}.resnets.{block}", f"{ours}/residual", _RESIDUAL)
        if step.attend:
            rules += at(f"{theirs}.attentions.{block}", f"{ours}/attend", TRANSFORMER)
        block += 1
    rules += at("mid_block.resnets.{i}", "middle/residual_{i}", _RESIDUAL)
    rules += at("mid_block.attentions.0", "middle/attend", TRANSFORMER)
    level = block = 0
    for step in output_steps(config):
        theirs, ours = f"up_blocks.{level}", "{}_{}".format(*step.place)
        rules += at(f"{theirs}.resnets.{block}", f"{ours}/residual", _RESIDUAL)
        if step.attend:
            rules += at(f"{theirs}.attentions.{block}", f"{ours}/attend", TRANSFORMER)
        block += 1
        if step.up:
            rules += affine(f"{theirs}.upsamplers.0.conv", f"{ours}/up/conv", "conv2d")
            level, block = level + 1, 0
    return [*rules, *norm("conv_norm_out", "head/norm"), *affine("conv_out", "head/layer", "conv2d")]


_SIDE = "{side:encoder|decoder}"

# The layers of a residual block of the autoencoder, which has no timestep embedding.
_BLOCK = [
    *norm("norm{n}", "norm{n}"),
    *affine("conv{n}", "conv{n}", "conv2d"),
    *affine("conv_shortcut", "shortcut", "conv2d"),
]

# The present names and those of files from before 2023. Both have matrices where ours are 1×1 convolutions.
_ATTENTION = [
    rule
    for names in (
        {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"},
        {"q": "query", "k": "key", "v": "value", "out": "proj_attn"},
    )
    for ours, theirs in names.items()
    for rule in (norm(theirs, ours) if ours == "norm" else affine(theirs, ours, "matrix_1x1"))
]


def autokl_rules(config: AutoKLConfig) -> list[Rule]:
    """The table of a KL autoencoder; it reads both spellings of the attention layers and writes the present one."""
    rules = [
        *affine(_SIDE + ".conv_{end:in|out}", _SIDE + "/conv_{end:in|out}", "conv2d"),
        *norm(_SIDE + ".conv_norm_out", _SIDE + "/norm_out"),
        *at(_SIDE + ".mid_block.resnets.0", _SIDE + "/mid_block_1", _BLOCK),
        *at(_SIDE + ".mid_block.attentions.0", _SIDE + "/mid_attention", _ATTENTION),
        *at(_SIDE + ".mid_block.resnets.1", _SIDE + "/mid_block_2", _BLOCK),
        *affine("{where:quant|post_quant}_conv", "{where:quant|post_quant}", "conv2d"),
    ]
    last = len(config.mult) - 1
    for level in range(last + 1):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{last - level}"
        rules += at(down + ".resnets.{b}", f"encoder/down_{level}_block_" + "{b}", _BLOCK)
        rules += at(up + ".resnets.{b}", f"decoder/up_{level}_block_" + "{b}", _BLOCK)
        rules += affine(f"{down}.downsamplers.0.conv", f"encoder/down_{level}_downsample", "conv2d")
        rules += affine(f"{up}.upsamplers.0.conv", f"decoder/up_{level}_upsample", "conv2d")
    return rules
