"""Prompt tower of sequences: the vision tower of CLIP (`clip`) along one axis.

    h_0 = LN([class token, patches] + positions),    h_{i+1} = layer_i(h_i),    output W LN(h at the class token)

Patches are embedded by one linear map or by a stem of convolutions, as in `clip.CLIPVision`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import ConfigError, config_class
from codi_jax.encoders.clip import clip_layer
from codi_jax.nn.layers import Conv, Dense
from codi_jax.nn.norms import GroupNorm, layer_norm
from codi_jax.nn.remat import Remat
from codi_jax.types import Array


@config_class()
class SequenceTowerConfig:
    """Sizes of a `SequenceTower`.

    Attributes:
      in_channels: channels of x.
      length: L, the number of steps of x, a multiple of `patch`.
      patch: consecutive steps of a patch.
      width: of the residual stream, a multiple of `heads`.
      layers: transformer layers.
      heads: attention heads.
      feed_forward: inner width of the feed-forward.
      projection: D, width of the shared space.
      stem: widths, multiples of 8, of stride-2 convolutions that embed the patches, instead of one linear map.

    Raises:
      ConfigError: sizes that do not fit together.
    """

    in_channels: int
    length: int
    patch: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    projection: int
    stem: tuple[int, ...] = ()

    def __post_init__(self):
        if self.length % self.patch:
            raise ConfigError(f"length: {self.length} steps are no whole number of patches of {self.patch}")
        if self.width % self.heads:
            raise ConfigError(f"heads: {self.heads} do not divide a width of {self.width}")
        if self.stem and 2 ** len(self.stem) != self.patch:
            raise ConfigError(f"stem: {len(self.stem)} convolutions of stride 2 do not make patches of {self.patch}")
        if any(width % 8 for width in self.stem):
            raise ConfigError(f"stem: the widths {self.stem} are not multiples of 8")


class SequenceTower(nn.Module):
    """The tower; `remat` says what is kept for the backward pass."""

    config: SequenceTowerConfig
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Embeds sequences.

        Args:
          x: [B, length, in_channels].

        Returns:
          [B, D], float32, not normalised.

        Raises:
          ValueError: another length or number of channels.
        """
        config = self.config
        if x.shape[1:] != (config.length, config.in_channels):
            raise ValueError(f"expected {config.length} steps of {config.in_channels} channels, got {x.shape[1:]}")
        patch = config.patch
        for i, width in enumerate(config.stem):
            x = Conv(width, (3,), (2,), use_bias=False, dtype=self.dtype, name=f"stem_{i}")(x)
            x = nn.gelu(GroupNorm(width // 8, 1, dtype=self.dtype, name=f"stem_norm_{i}")(x))
            patch = 1
        x = x.reshape(x.shape[0], -1, patch * x.shape[-1])
        x = Dense(config.width, use_bias=False, dtype=self.dtype, name="patch")(x)
        first = self.param("class", nn.initializers.normal(config.width**-0.5), (config.width,)).astype(self.dtype)
        x = jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], 1, config.width)), x], axis=1)
        x = x + nn.Embed(x.shape[1], config.width, dtype=self.dtype, name="position")(jnp.arange(x.shape[1]))
        x = layer_norm(self.dtype, "norm_in")(x)
        for i in range(config.layers):
            layer = clip_layer(self.remat)(
                config.width, config.heads, config.feed_forward, self.dtype, name=f"layer_{i}"
            )
            x = layer(x, None, 1)
        projection = Dense(config.projection, use_bias=False, dtype=self.dtype, name="projection")
        return projection(layer_norm(self.dtype, "norm")(x[:, 0])).astype(jnp.float32)
