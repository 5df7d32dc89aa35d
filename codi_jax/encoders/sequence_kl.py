"""KL autoencoder of sequences: the one of latent diffusion (`autokl`) along one axis.

    (μ, log σ²) = E(x),        z = μ + σ ε,  ε ~ N(0, 1),        x̂ = D(z)

Patches of consecutive steps are folded into channels before E and unfolded after D. E halves the length at each level
except the last, D doubles it. The scale of the latent is not part of the network, see `Modality.denormalize`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import ConfigError, config_class
from codi_jax.encoders.autokl import LOGVAR_RANGE
from codi_jax.nn.conv import Conv3
from codi_jax.nn.layers import Dense
from codi_jax.nn.norms import GroupNorm
from codi_jax.types import Array


@config_class()
class SequenceKLConfig:
    """Sizes of a `SequenceKL`.

    Attributes:
      in_channels: channels of x.
      channels: features at the finest level.
      mult: features of each level as a multiple of `channels`; there are len(mult) - 1 downsamplings.
      blocks: residual blocks per level in the encoder; the decoder has one more.
      embed_dim: channels of the latent.
      groups: groups of every group norm.
      patch: consecutive steps of x that are folded into one.

    Raises:
      ConfigError: `groups` does not divide a width.
    """

    in_channels: int
    channels: int
    mult: tuple[int, ...]
    blocks: int
    embed_dim: int
    groups: int = 32
    patch: int = 1

    def __post_init__(self):
        for mult in self.mult:
            if (width := mult * self.channels) % self.groups:
                raise ConfigError(f"mult: a width of {width} is not a multiple of groups = {self.groups}")

    @property
    def downscale(self) -> int:
        """Length of x divided by length of z."""
        return self.patch * 2 ** (len(self.mult) - 1)


class _Layers(nn.Module):
    """Base of the modules below: config, compute type, convolution and norm."""

    config: SequenceKLConfig
    dtype: DTypeLike = jnp.float32

    def conv(self, name: str, features: int, stride: int = 1) -> Conv3:
        return Conv3(features, stride=stride, dtype=self.dtype, name=name)

    def norm(self, name: str, silu: bool = False) -> GroupNorm:
        return GroupNorm(self.config.groups, positions=1, epsilon=1e-6, dtype=self.dtype, silu=silu, name=name)

    def res(self, name: str, features: int) -> "SequenceResBlock":
        return SequenceResBlock(self.config, self.dtype, features, name=name)


class SequenceResBlock(_Layers):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with a dense layer on x where the width changes."""

    features: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = self.conv("conv1", self.features)(self.norm("norm1", silu=True)(x))
        h = self.conv("conv2", self.features)(self.norm("norm2", silu=True)(h))
        if x.shape[-1] != self.features:
            x = Dense(self.features, dtype=self.dtype, name="shortcut")(x)
        return x + h


class SequenceEncoder(_Layers):
    """x [B, L, in_channels] to moments [B, L/f, 2 embed_dim]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        config = self.config
        x = x.reshape(x.shape[0], -1, config.patch * x.shape[-1])
        x = self.conv("conv_in", config.channels)(x)
        for level, mult in enumerate(config.mult):
            for block in range(config.blocks):
                x = self.res(f"down_{level}_block_{block}", config.channels * mult)(x)
            if level + 1 < len(config.mult):
                x = self.conv(f"down_{level}_downsample", x.shape[-1], stride=2)(x)
        x = self.norm("norm_out", silu=True)(self.res("mid_block", x.shape[-1])(x))
        return self.conv("conv_out", 2 * config.embed_dim)(x)


class SequenceDecoder(_Layers):
    """Latent [B, L/f, embed_dim] to x [B, L, in_channels]; level 0 is the finest."""

    @nn.compact
    def __call__(self, z: Array) -> Array:
        config = self.config
        x = self.conv("conv_in", config.channels * config.mult[-1])(z)
        x = self.res("mid_block", x.shape[-1])(x)
        for level, mult in reversed(list(enumerate(config.mult))):
            for block in range(config.blocks + 1):
                x = self.res(f"up_{level}_block_{block}", config.channels * mult)(x)
            if level:
                x = self.conv(f"up_{level}_upsample", x.shape[-1])(x.repeat(2, axis=1))
        x = self.conv("conv_out", config.patch * config.in_channels)(self.norm("norm_out", silu=True)(x))
        return x.reshape(x.shape[0], -1, config.in_channels)


class SequenceKL(nn.Module):
    """The autoencoder; x is [B, L, in_channels], L a multiple of `config.downscale`."""

    config: SequenceKLConfig
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.encoder = SequenceEncoder(self.config, self.dtype)
        self.decoder = SequenceDecoder(self.config, self.dtype)

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Posterior of z: mean and log-variance, float32, each [B, L/f, embed_dim].

        Raises:
          ValueError: the length of x is not a multiple of f.
        """
        if x.shape[1] % self.config.downscale:
            raise ValueError(f"a length of {x.shape[1]} is not a multiple of {self.config.downscale}")
        mean, logvar = jnp.split(self.encoder(x).astype(jnp.float32), 2, axis=-1)
        return mean, jnp.clip(logvar, *LOGVAR_RANGE)

    def decode(self, z: Array) -> Array:
        """Latent [B, L/f, embed_dim] to x [B, L, in_channels], float32, not clipped."""
        return self.decoder(z).astype(jnp.float32)

    def __call__(self, x: Array, rng: jax.Array | None = None) -> tuple[Array, Array, Array]:
        """Reconstruction of x from z sampled from its posterior (the mean if rng is None), mean and log-variance."""
        mean, logvar = self.encode(x)
        noise = 0.0 if rng is None else jax.random.normal(rng, mean.shape)
        return self.decode(mean + jnp.exp(0.5 * logvar) * noise), mean, logvar
