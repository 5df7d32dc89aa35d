"""The layers of the kinds of latent, maps, sequences and vectors: stem, residual block, downsampling, upsampling, head.

Maps are convolved frame by frame: a convolution takes [B, T, H, W, C] as T·B maps. Sequences are convolved along their
length. Features of a vector are S tokens stored flat, [B, C·S] in channel-major order, the order of the release: skips
are concatenated, and "down" and "up", which do not change the resolution, are dense layers. Only attention and the norm
of the head use the S tokens.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.nn.config import BlockConfig
from codi_jax.nn.conv import Conv3, Conv3x3
from codi_jax.nn.layers import Dense
from codi_jax.nn.norms import GroupNorm
from codi_jax.nn.residual import Residual
from codi_jax.nn.transformer import as_features, as_tokens
from codi_jax.types import Array


class Upsample(nn.Module):
    """Nearest neighbour ×2, then a 3×3 convolution: [..., H, W, C] -> [..., 2H, 2W, C]."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Array) -> Array:
        *batch, height, width, channels = h.shape
        h = jnp.broadcast_to(h[..., :, None, :, None, :], (*batch, height, 2, width, 2, channels))
        h = h.reshape(*batch, 2 * height, 2 * width, channels)
        return Conv3x3(channels, dtype=self.dtype, name="conv")(h)


class Spatial:
    """Blocks for maps [..., H, W, C]."""

    def __init__(self, config: BlockConfig, dtype: DTypeLike):
        self.config, self.dtype = config, dtype

    def layer(self, width: int, name: str | None, zero: bool = False) -> nn.Module:
        return Conv3x3(width, zero=zero, dtype=self.dtype, name=name)

    def residual(self, width: int, name: str | None) -> nn.Module:
        return Residual(width, self.config.groups, 2, self.layer, self.dtype, name=name)

    def down(self, width: int, name: str) -> nn.Module:
        return Conv3x3(width, stride=2, dtype=self.dtype, name=name)

    def up(self, width: int, name: str) -> nn.Module:
        return Upsample(self.dtype, name=name)


class UpsampleSequence(nn.Module):
    """Nearest neighbour ×2, then a convolution of width 3: [B, L, C] -> [B, 2L, C]."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Array) -> Array:
        return Conv3(h.shape[-1], dtype=self.dtype, name="conv")(h.repeat(2, axis=1))


class Sequence:
    """Blocks for sequences [B, L, C]."""

    def __init__(self, config: BlockConfig, dtype: DTypeLike):
        self.config, self.dtype = config, dtype

    def layer(self, width: int, name: str | None, zero: bool = False) -> nn.Module:
        return Conv3(width, zero=zero, dtype=self.dtype, name=name)

    def residual(self, width: int, name: str | None) -> nn.Module:
        return Residual(width, self.config.groups, 1, self.layer, self.dtype, name=name)

    def down(self, width: int, name: str) -> nn.Module:
        return Conv3(width, stride=2, dtype=self.dtype, name=name)

    def up(self, width: int, name: str) -> nn.Module:
        return UpsampleSequence(self.dtype, name=name)


class Vector:
    """Blocks for flat vectors [B, C·S]; `width` is that of a token, C."""

    def __init__(self, config: BlockConfig, dtype: DTypeLike):
        self.config, self.dtype = config, dtype

    def layer(self, width: int, name: str | None, zero: bool = False) -> nn.Module:
        init = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
        return Dense(width, dtype=self.dtype, kernel_init=init, name=name)

    def residual(self, width: int, name: str | None) -> nn.Module:
        return Residual(self.config.flat(width), self.config.groups, 0, self.layer, self.dtype, name=name)

    def down(self, width: int, name: str) -> nn.Module:
        return self.layer(self.config.flat(width), name)

    up = down


KINDS: dict[str, type[Spatial | Sequence | Vector]] = {"spatial": Spatial, "sequence": Sequence, "vector": Vector}


def blocks_of(config: BlockConfig, dtype: DTypeLike) -> Spatial | Sequence | Vector:
    """The blocks of the kind in the config."""
    return KINDS[config.kind](config, dtype)


class Head(nn.Module):
    """Output layer: norm over channels, SiLU, a layer of the kind, initialised with zeros if `zero`."""

    config: BlockConfig
    width: int
    zero: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Array) -> Array:
        tokens = as_tokens(h, self.config.vector_tokens)
        tokens = GroupNorm(self.config.groups, positions=1, dtype=self.dtype, silu=True, name="norm")(tokens)
        h = as_features(tokens, h.shape)
        return blocks_of(self.config, self.dtype).layer(self.width, "layer", self.zero)(h)
