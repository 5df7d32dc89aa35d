"""`encoders.HiFiGAN` ↔ the public HiFi-GAN generators: keys below `audioldm.vocoder.`.

Generators are trained with weight normalization, W = g v / ‖v‖ with one norm per index of the first axis, and are
published with W or with g and v: see `fused`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.encoders.hifigan import HiFiGANConfig
from codi_jax.interop.names import Rule, affine

RULES: list[Rule] = [
    *affine("conv_pre", "conv_in", "conv1d"),
    *affine("ups.{i}", "up_{i}", "conv1d_transpose"),
    *affine("resblocks.{i}.convs{n:[12]}.{layer}", "res_{i}/conv{n:[12]}_{layer}", "conv1d"),
    *affine("conv_post", "conv_out", "conv1d"),
]


def fused(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state with every pair X.weight_g, X.weight_v fused to X.weight; other entries (also half pairs) unchanged."""
    out = dict(state)
    for key in state:
        stem = key.removesuffix("_v")
        if key.endswith(".weight_v") and f"{stem}_g" in state:
            g, v = np.asarray(out.pop(f"{stem}_g")), np.asarray(out.pop(key))
            length = np.sqrt(np.square(v.astype(np.float64)).sum(tuple(range(1, v.ndim)), keepdims=True))
            out[stem] = (g * (v / length)).astype(v.dtype)
    return out


def config(fields: Mapping[str, Any]) -> HiFiGANConfig:
    """Translates the config fields of the release.

    Raises:
      ConfigError: the residual blocks of the paper's V3, which no public checkpoint has.
    """
    if str(fields["resblock"]) != "1":
        raise ConfigError(f"resblock: {fields['resblock']!r} is not supported, only '1'")
    return HiFiGANConfig(
        mels=fields["num_mels"],
        channels=fields["upsample_initial_channel"],
        rates=tuple(fields["upsample_rates"]),
        kernels=tuple(fields["upsample_kernel_sizes"]),
        res_kernels=tuple(fields["resblock_kernel_sizes"]),
        res_dilations=tuple(map(tuple, fields["resblock_dilation_sizes"])),
    )
