"""The temporal layer, which extends a network for images to video.

On features x [B, T, H, W, C]:

    x += A(x)                          attention over frames at each position
    x += F(x)                          feed-forward whose second half is delayed by one frame
    x += shift(conv SiLU GN(x))        the k-th of 8 chunks of channels is delayed by k frames

The output layer of A and the convolution are initialised with zeros. The input of the attention is N(x + p_t + r), with
N the norm over *frames* (`norms`), p the position of the frame and r the frame rate; r is the same for all frames, so
that N removes it, but the public weights contain it. The scores have a bias B[i, j] = MLP(sign(i − j) ln(|i − j| + 1))
per head.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from codi_jax.config import ConfigError
from codi_jax.nn.attention import attend, split_heads
from codi_jax.nn.config import BlockConfig
from codi_jax.nn.conv import Conv3x3
from codi_jax.nn.layers import Dense
from codi_jax.nn.norms import ClampedNorm, GroupNorm
from codi_jax.types import Array

FRAME_RATE_ROW = 3  # the release uses one rate, row 4 − 1 of its table
SHIFTS = 8


def delay(x: Array, frames: int) -> Array:
    """Delays x [B, T, ...] by `frames` frames: zeros are shifted in, and the last frames are dropped."""
    keep = x[:, : max(x.shape[1] - frames, 0)]
    return jnp.pad(keep, [(0, 0), (x.shape[1] - keep.shape[1], 0)] + [(0, 0)] * (x.ndim - 2))


def delay_chunks(x: Array, chunks: int) -> Array:
    """Splits channels into chunks of equal size (the last may be smaller) and delays the k-th by k frames."""
    size = -(-x.shape[-1] // chunks)
    parts = [x[..., start : start + size] for start in range(0, x.shape[-1], size)]
    return jnp.concatenate([delay(part, k) for k, part in enumerate(parts)], axis=-1)


class PositionBias(nn.Module):
    """Bias of the temporal attention scores, [N, T, T], from the signed logarithm of the distance."""

    width: int
    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, frames: int) -> Array:
        distance = np.subtract.outer(np.arange(frames), np.arange(frames))
        x = np.sign(distance) * np.log1p(np.abs(distance))
        x = jnp.asarray(x[..., None], self.dtype)
        for n in range(2):
            x = jax.nn.silu(nn.Dense(self.width, dtype=self.dtype, name=f"layer_{n}")(x))
        return nn.Dense(self.heads, dtype=self.dtype, name="layer_2")(x).transpose(2, 0, 1)


class TemporalAttention(nn.Module):
    """Attention over the frames at each position: [B, T, H, W, C] -> the same."""

    config: BlockConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, frames, height, width, channels = x.shape
        heads = self.config.temporal_heads
        inner = heads * (channels // self.config.temporal_divisor)

        table = (self.config.max_frames, channels)
        positions = self.param("positions", nn.initializers.normal(1.0), table)[:frames]
        rate = self.param("frame_rate", nn.initializers.normal(1.0), table)[FRAME_RATE_ROW]
        x = x + (positions + rate)[:, None, None, :].astype(self.dtype)
        epsilon = 1e-5 if self.dtype == jnp.float32 else 1e-3  # half precision needs it in the release
        x = ClampedNorm(axis=1, epsilon=epsilon, dtype=self.dtype, name="norm")(x)

        x = jnp.moveaxis(x, 1, 3).reshape(-1, frames, channels)
        q = Dense(inner, use_bias=False, dtype=self.dtype, name="query")(x)
        kv = Dense(2 * inner, use_bias=False, dtype=self.dtype, name="key_value")(x)
        k, v = jnp.split(kv, 2, axis=-1)
        bias = PositionBias(channels // 2, heads, self.dtype, name="bias")(frames)
        y = attend(split_heads(q, heads), split_heads(k, heads), split_heads(v, heads), bias)
        out = Dense(channels, use_bias=False, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")
        y = out(y.reshape(-1, frames, inner)).reshape(batch, height, width, frames, channels)
        return jnp.moveaxis(y, 3, 1)


class TemporalFeedForward(nn.Module):
    """GEGLU with a time shift: [B, T, H, W, C] -> the same. Gate, shift and norm are float32, as in the release."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        inner = int(channels * 4 * 2 / 3)
        y = Dense(2 * inner, use_bias=False, dtype=self.dtype, name="layer_in")(x)
        y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
        value, gate = jnp.split(y, 2, axis=-1)
        y = delay_chunks(value * jax.nn.gelu(gate, approximate=False), 2)
        y = ClampedNorm(axis=-1, dtype=self.dtype, name="norm")(y)
        return Dense(channels, use_bias=False, dtype=self.dtype, name="layer_out")(y)


class FrameShift(nn.Module):
    """A convolution of each frame, delayed chunk by chunk: [B, T, H, W, C] -> the same."""

    config: BlockConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = GroupNorm(self.config.groups, positions=2, dtype=self.dtype, silu=True, name="norm")(x)
        return delay_chunks(Conv3x3(x.shape[-1], zero=True, dtype=self.dtype, name="conv")(x), SHIFTS)


class Temporal(nn.Module):
    """The temporal layer: [B, T, H, W, C] -> the same.

    Raises:
      ConfigError: more frames than `max_frames`.
    """

    config: BlockConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if x.shape[1] > self.config.max_frames:
            raise ConfigError(f"{x.shape[1]} frames, but the temporal layers have {self.config.max_frames} positions")
        x = x + TemporalAttention(self.config, self.dtype, name="attention")(x)
        x = x + TemporalFeedForward(self.dtype, name="feed_forward")(x)
        return x + FrameShift(self.config, self.dtype, name="frame_shift")(x)
