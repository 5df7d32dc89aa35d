"""Normalisations; statistics are always float32.

Group norm: each of G groups of channels over all positions, y = (x − μ) / √(σ² + ε) · scale + bias.
Clamped norm over an axis: y = (x − μ) / √max(σ², ε) · scale. The release uses it over channels and, in its temporal
attention, over *frames*: what a (position, channel) pair has in common in all frames is removed.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from codi_jax.types import Array


class GroupNorm(nn.Module):
    """Group norm over the last `positions` axes before the channels; all axes before those are batch.

    Attributes:
      groups: G.
      positions: 2 for maps [..., H, W, C], so that every frame of a video stands alone; 1 for tokens [..., L, C]; 0 for
        vectors [..., C].
      epsilon: ε.
      dtype: of the result.
    """

    groups: int
    positions: int
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        axes = tuple(range(x.ndim - 1 - self.positions, x.ndim - 1))

        def group_mean(values: Array) -> Array:
            """The mean of each group, repeated for its channels; positions first, which is a contiguous sum."""
            per_channel = values.mean(axes, keepdims=True)
            grouped = per_channel.reshape(*per_channel.shape[:-1], self.groups, channels // self.groups)
            mean = jnp.broadcast_to(grouped.mean(-1, keepdims=True), grouped.shape)
            return mean.reshape(per_channel.shape)

        x = x.astype(jnp.float32)
        x = x - group_mean(x)
        return (x * (jax.lax.rsqrt(group_mean(jnp.square(x)) + self.epsilon) * scale) + bias).astype(self.dtype)


class ClampedNorm(nn.Module):
    """Norm over one axis with a gain per channel, no bias, and ε as the least variance."""

    axis: int
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        x = x.astype(jnp.float32)
        x = x - x.mean(self.axis, keepdims=True)
        variance = jnp.square(x).mean(self.axis, keepdims=True)
        return (x * jax.lax.rsqrt(jnp.maximum(variance, self.epsilon)) * scale).astype(self.dtype)


def layer_norm(dtype: jnp.dtype, name: str) -> nn.LayerNorm:
    """Layer norm over channels with PyTorch's ε."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name)
