"""KL autoencoder of latent diffusion (arXiv 2112.10752, the "KL-f8" family).

    (μ, log σ²) = Q(E(x)),        z = μ + σ ε,  ε ~ N(0, 1),        x̂ = D(P(z))

E halves the grid at each level except the last, D doubles it; Q and P are 1x1 convolutions between feature and latent
channels. x is an image, or a spectrogram with time as height; the frames of a video are encoded independently. The
scale of the latent is not part of the network, see `Modality.denormalize`.

The strided convolution pads (0, 1) on each axis, as the published weights expect; group norms have ε = 1e-6.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import config_class
from codi_jax.nn.attention import attend
from codi_jax.nn.conv import Conv3x3
from codi_jax.nn.layers import Conv
from codi_jax.nn.norms import GroupNorm
from codi_jax.types import Array

LOGVAR_RANGE = (-30.0, 20.0)


@config_class()
class AutoKLConfig:
    """Sizes of an `AutoKL`.

    Attributes:
      in_channels: channels of x.
      channels: features at the finest level.
      mult: features of each level as a multiple of `channels`; there are len(mult) - 1 downsamplings.
      blocks: residual blocks per level in the encoder; the decoder has one more.
      z_channels: channels at the bottleneck, before Q and after P.
      embed_dim: channels of the latent.
      groups: groups of every group norm; must divide every width.
      mid_attention: single-head self-attention over the grid between the two middle blocks.
      patch: side of the patches of x that are folded into channels before E and unfolded after D (HaCohen et al.,
        "LTX-Video", arXiv 2501.00103), which avoids the costly levels at full resolution. 1 in the published codecs.
    """

    in_channels: int
    channels: int
    mult: tuple[int, ...]
    blocks: int
    z_channels: int
    embed_dim: int
    groups: int = 32
    mid_attention: bool = True
    patch: int = 1

    @property
    def downscale(self) -> int:
        """Side of x divided by side of z."""
        return self.patch * 2 ** (len(self.mult) - 1)


def clip_outliers(z: Array) -> Array:
    """Clips generated audio latents as the public release does before it denormalises them.

    Clips to [-10, 10] if any |z| of the batch exceeds 100; otherwise returns z unchanged.
    """
    return jnp.where(jnp.abs(z).max() > 100, jnp.clip(z, -10, 10), z)


class _Layers(nn.Module):
    """Base of the modules below: config, compute type, convolution and norm."""

    config: AutoKLConfig
    dtype: DTypeLike = jnp.float32

    def conv(self, name: str, features: int, size: int = 3, **kwargs) -> nn.Module:
        if size == 3 and not kwargs:
            return Conv3x3(features, dtype=self.dtype, name=name)
        return Conv(features, (size, size), dtype=self.dtype, name=name, **kwargs)

    def norm(self, name: str, silu: bool = False) -> GroupNorm:
        return GroupNorm(self.config.groups, positions=2, epsilon=1e-6, dtype=self.dtype, silu=silu, name=name)

    def res(self, name: str, features: int) -> "ResBlock":
        return ResBlock(self.config, self.dtype, features, name=name)

    def middle(self, x: Array) -> Array:
        features = x.shape[-1]
        x = self.res("mid_block_1", features)(x)
        if self.config.mid_attention:
            x = GridAttention(self.config, self.dtype, name="mid_attention")(x)
        return self.res("mid_block_2", features)(x)


class ResBlock(_Layers):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with a 1x1 convolution on x where the width changes."""

    features: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = self.conv("conv1", self.features)(self.norm("norm1", silu=True)(x))
        h = self.conv("conv2", self.features)(self.norm("norm2", silu=True)(h))
        if x.shape[-1] != self.features:
            x = self.conv("shortcut", self.features, 1)(x)
        return x + h


class GridAttention(_Layers):
    """x + out(softmax(q kᵀ / √C) v) over all H·W positions, one head of width C."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        y = self.norm("norm")(x)
        q, k, v = (self.conv(name, c, 1)(y).reshape(b, h * w, 1, c) for name in "qkv")
        return x + self.conv("out", c, 1)(attend(q, k, v).reshape(x.shape))


class Encoder(_Layers):
    """x [B, H, W, in_channels] to features [B, H/f, W/f, 2 z_channels]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        config, p = self.config, self.config.patch
        b, h, w, c = x.shape
        x = x.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // p, w // p, p * p * c)
        x = self.conv("conv_in", config.channels)(x)
        for level, mult in enumerate(config.mult):
            for block in range(config.blocks):
                x = self.res(f"down_{level}_block_{block}", config.channels * mult)(x)
            if level + 1 < len(config.mult):
                padding = ((0, 1), (0, 1))
                x = self.conv(f"down_{level}_downsample", x.shape[-1], strides=2, padding=padding)(x)
        x = self.norm("norm_out", silu=True)(self.middle(x))
        return self.conv("conv_out", 2 * config.z_channels)(x)


class Decoder(_Layers):
    """Features [B, H/f, W/f, z_channels] to x [B, H, W, in_channels]; level 0 is the finest."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        config = self.config
        x = self.middle(self.conv("conv_in", config.channels * config.mult[-1])(x))
        for level, mult in reversed(list(enumerate(config.mult))):
            for block in range(config.blocks + 1):
                x = self.res(f"up_{level}_block_{block}", config.channels * mult)(x)
            if level:
                x = self.conv(f"up_{level}_upsample", x.shape[-1])(x.repeat(2, 1).repeat(2, 2))
        x = self.norm("norm_out", silu=True)(x)
        x = self.conv("conv_out", config.patch**2 * config.in_channels)(x)
        b, h, w, _ = x.shape
        p, c = config.patch, config.in_channels
        return x.reshape(b, h, w, p, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h * p, w * p, c)


def _per_frame(function: Callable[[Array], Array], x: Array) -> Array:
    """Applies a function of [B, H, W, C] to x, or to every frame of x [B, T, H, W, C]."""
    y = function(x.reshape(-1, *x.shape[-3:]))
    return y.reshape(*x.shape[:-3], *y.shape[1:])


class AutoKL(nn.Module):
    """The autoencoder; x is [B, H, W, C] or [B, T, H, W, C] in [-1, 1], H and W multiples of `config.downscale`."""

    config: AutoKLConfig
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        config = self.config
        self.encoder = Encoder(config, self.dtype)
        self.decoder = Decoder(config, self.dtype)
        self.quant = Conv(2 * config.embed_dim, (1, 1), dtype=self.dtype)
        self.post_quant = Conv(config.z_channels, (1, 1), dtype=self.dtype)

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Posterior of z: mean and log-variance, float32, each [..., H/f, W/f, embed_dim].

        Raises:
          ValueError: a side of x is not a multiple of f.
        """
        if any(side % self.config.downscale for side in x.shape[-3:-1]):
            raise ValueError(f"sides {x.shape[-3:-1]} are not multiples of {self.config.downscale}")
        moments = _per_frame(lambda y: self.quant(self.encoder(y)), x).astype(jnp.float32)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(logvar, *LOGVAR_RANGE)

    def decode(self, z: Array) -> Array:
        """Latent [..., h, w, embed_dim] to x [..., h f, w f, in_channels], float32, not clipped."""
        return _per_frame(lambda y: self.decoder(self.post_quant(y)), z).astype(jnp.float32)

    def __call__(self, x: Array, rng: jax.Array | None = None) -> tuple[Array, Array, Array]:
        """Reconstruction of x from z sampled from its posterior (the mean if rng is None), mean and log-variance."""
        mean, logvar = self.encode(x)
        noise = 0.0 if rng is None else jax.random.normal(rng, mean.shape)
        return self.decode(mean + jnp.exp(0.5 * logvar) * noise), mean, logvar
