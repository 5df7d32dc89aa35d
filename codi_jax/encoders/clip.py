"""CLIP towers (arXiv 2103.00020): text, images and video to one vector each in a shared space.

    layer        h = h + attention(LN(h)),  [h = h + temporal(h) for video,]  h = h + W₂ quick_gelu(W₁ LN(h))
    quick_gelu   x σ(1.702 x)
    text         causal attention; the state at the largest id, which is that of <eos> (the first if several), projected
    vision       patches and a class token; the state of the class token, normalised and projected

The frames of a video pass through the vision tower separately, except that every layer mixes them by `clip_temporal`;
their mean is taken at the end. Embeddings are normalised by `unit`.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import ConfigError, config_class
from codi_jax.encoders.clip_temporal import CLIPTemporal
from codi_jax.nn.attention import attend, split_heads
from codi_jax.nn.layers import Conv, Dense, Embed
from codi_jax.nn.norms import GroupNorm, layer_norm
from codi_jax.nn.remat import Remat, blockwise
from codi_jax.types import MASKED, Array


@config_class()
class CLIPTextConfig:
    """Sizes of a `CLIPText`.

    Attributes:
      vocab: number of token ids; <eos> has the largest id.
      width: of the residual stream, a multiple of `heads`.
      layers: transformer layers.
      heads: attention heads.
      feed_forward: inner width of the feed-forward.
      positions: longest sequence.
      projection: D, width of the shared space.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    positions: int
    projection: int


@config_class()
class CLIPVisionConfig:
    """Sizes of a `CLIPVision`.

    Attributes:
      image_size: side of the square image in pixels, a multiple of `patch`.
      patch: side of a patch in pixels.
      width: of the residual stream, a multiple of `heads`.
      layers: transformer layers.
      heads: attention heads.
      feed_forward: inner width of the feed-forward.
      projection: D, width of the shared space.
      temporal: layers mix the frames of a video; if false, its embedding is the mean over frames.
      stem: widths of stride-2 convolutions that embed the patches, instead of one linear map (Xiao et al., "Early
        convolutions help transformers see better", arXiv 2106.14881); a small tower needs far fewer samples with it.

    Raises:
      ConfigError: a stem that does not match the patch.
    """

    image_size: int
    patch: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    projection: int
    temporal: bool = False
    stem: tuple[int, ...] = ()

    def __post_init__(self):
        if self.stem and 2 ** len(self.stem) != self.patch:
            raise ConfigError(f"stem: {len(self.stem)} convolutions of stride 2 do not make patches of {self.patch}")


def quick_gelu(x: Array) -> Array:
    """x σ(1.702 x)."""
    return x * nn.sigmoid(1.702 * x)


def unit(x: Array) -> Array:
    """x / ‖x‖ over the last axis in float32, without an ε, as in the public CoDi release: NaN at x = 0."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.square(x).sum(-1, keepdims=True))


class CLIPLayer(nn.Module):
    """One pre-norm layer.

    Attributes:
      width: of x.
      heads: attention heads.
      feed_forward: inner width.
      dtype: compute type.
    """

    width: int
    heads: int
    feed_forward: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, bias: Array | None = None, frames: int = 1) -> Array:
        """One layer.

        Args:
          x: [B·frames, L, width].
          bias: [L, L], added to the scores.
          frames: with more than one, the temporal layer runs between attention and feed-forward.

        Returns:
          An array of the shape of x.
        """

        def dense(name: str, y: Array, features: int = self.width) -> Array:
            return Dense(features, dtype=self.dtype, name=name)(y)

        y = layer_norm(self.dtype, "norm1")(x)
        q, k, v = (split_heads(dense(name, y), self.heads) for name in ("query", "key", "value"))
        x = x + dense("out", attend(q, k, v, bias).reshape(x.shape))
        if frames > 1:
            x = CLIPTemporal(self.heads, self.dtype, name="temporal")(x, frames)
        y = dense("fc1", layer_norm(self.dtype, "norm2")(x), self.feed_forward)
        return x + dense("fc2", quick_gelu(y))


def clip_layer(remat: Remat) -> type[CLIPLayer]:
    """The class of a layer that keeps what `remat` says."""
    return blockwise(CLIPLayer, remat, static_argnums=(3,))  # 3: the number of frames


class CLIPText(nn.Module):
    """Text tower; `remat` says what is kept for the backward pass."""

    config: CLIPTextConfig
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        """Embeds sequences.

        Args:
          ids: [B, L] integers, padded after <eos> with ids no larger than it.

        Returns:
          [B, D], float32, not normalised.

        Raises:
          ValueError: L exceeds `config.positions`.
        """
        config, length = self.config, ids.shape[1]
        if length > config.positions:
            raise ValueError(f"{length} tokens exceed the {config.positions} positions")
        x = Embed(config.vocab, config.width, dtype=self.dtype, name="token")(ids)
        x = x + nn.Embed(config.positions, config.width, dtype=self.dtype, name="position")(jnp.arange(length))
        causal = jnp.triu(jnp.full((length, length), MASKED), 1)
        for i in range(config.layers):
            layer = clip_layer(self.remat)(
                config.width, config.heads, config.feed_forward, self.dtype, name=f"layer_{i}"
            )
            x = layer(x, causal, 1)
        x = layer_norm(self.dtype, "norm")(x)
        pooled = jnp.take_along_axis(x, ids.argmax(1)[:, None, None], axis=1)[:, 0]
        projection = Dense(config.projection, use_bias=False, dtype=self.dtype, name="projection")
        return projection(pooled).astype(jnp.float32)


class CLIPVision(nn.Module):
    """Vision tower; `remat` says what is kept for the backward pass.

    Parameters of temporal layers are created only if it is initialised with two or more frames.
    """

    config: CLIPVisionConfig
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, pixels: Array) -> Array:
        """Embeds images or video.

        Args:
          pixels: [B, H, W, channels] or [B, T, H, W, channels], H = W = image_size, normalised as the weights expect.
            A video of one frame is an image.

        Returns:
          [B, D], float32, not normalised.

        Raises:
          ValueError: another size than image_size.
        """
        config = self.config
        if pixels.shape[-3:-1] != (config.image_size, config.image_size):
            raise ValueError(f"expected {config.image_size} x {config.image_size} pixels, got {pixels.shape[-3:-1]}")
        batch, frames = pixels.shape[0], math.prod(pixels.shape[1:-3])
        x = pixels.reshape(-1, *pixels.shape[-3:])
        patch = (config.patch, config.patch)
        for i, width in enumerate(config.stem):
            x = Conv(width, (3, 3), (2, 2), use_bias=False, dtype=self.dtype, name=f"stem_{i}")(x)
            x = nn.gelu(GroupNorm(width // 8, 2, dtype=self.dtype, name=f"stem_norm_{i}")(x))
            patch = (1, 1)
        x = Conv(config.width, patch, patch, "VALID", use_bias=False, dtype=self.dtype, name="patch")(x)
        x = x.reshape(x.shape[0], -1, config.width)
        first = self.param("class", nn.initializers.normal(config.width**-0.5), (config.width,)).astype(self.dtype)
        x = jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], 1, config.width)), x], axis=1)
        x = x + nn.Embed(x.shape[1], config.width, dtype=self.dtype, name="position")(jnp.arange(x.shape[1]))
        x = layer_norm(self.dtype, "norm_in")(x)
        for i in range(config.layers):
            layer = clip_layer(self.remat)(
                config.width, config.heads, config.feed_forward, self.dtype, name=f"layer_{i}"
            )
            x = layer(x, None, frames if config.temporal else 1)
        pooled = layer_norm(self.dtype, "norm")(x[:, 0].reshape(batch, frames, config.width).mean(1))
        projection = Dense(config.projection, use_bias=False, dtype=self.dtype, name="projection")
        return projection(pooled).astype(jnp.float32)


class LogitScale(nn.Module):
    """The learned inverse temperature of a contrastive loss, min(eˢ, 100), with s = ln(1 / 0.07) at initialisation."""

    @nn.compact
    def __call__(self) -> Array:
        log_scale = self.param("log_scale", nn.initializers.constant(math.log(1 / 0.07)), ())
        return jnp.exp(jnp.minimum(log_scale, math.log(100)))
