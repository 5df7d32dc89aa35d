"""Normalisations with their derivative in closed form; statistics are always float32.

With statistics over a set S of n numbers (μ, σ² of those that x_i shares one with), and the gradient g_i of y_i,

    r = 1 / √(σ² + ε)        x̂_i = (x_i − μ) · r        y_i = x̂_i · scale + bias
    h_i = g_i · scale        dx_i = r · (h_i − mean_S(h) − x̂_i · mean_S(h · x̂))

Group norm: S is a group of channels over all positions. Layer norm: all channels of one position. Clamped norm: one
axis, with r = 1 / √max(σ², ε), whose last term is 0 where σ² < ε, and no bias. The release uses it over channels and,
in its temporal attention, over *frames*: what a (position, channel) pair has in common in all frames is removed.

Left to automatic differentiation a norm is twice as many kernels, and keeps more of its input for the backward pass;
in networks as small as the demo's, norms then are most of what there is to compile.
"""

import dataclasses
import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from codi_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What a norm takes mean and variance over.

    Attributes:
      axes: of positions, each a negative number; () for every position by itself.
      groups: into how many groups the channels (last) fall.
      epsilon: ε.
      clamped: whether ε is the least variance, in place of being added.
    """

    axes: tuple[int, ...]
    groups: int
    epsilon: float
    clamped: bool = False

    def sums(self, x: Array) -> Array:
        """Σ over `axes` for every channel: contiguous sums, of which `means` has little left to add."""
        return x.sum(self.axes) if self.axes else x

    def means(self, sums: Array, like: Array) -> Array:
        """From `sums` of what has the shape of `like`, means over S, in a shape that broadcasts to that of `like`."""
        channels = sums.shape[-1]
        kept = [1 if axis - like.ndim in self.axes else length for axis, length in enumerate(like.shape)]
        scale = self.groups / (math.prod(like.shape[axis] for axis in self.axes) * channels)
        if self.groups == channels:
            return (sums * scale).reshape(kept)
        if self.groups == 1:
            return (sums.sum(-1) * scale).reshape(*kept[:-1], 1)
        grouped = sums.reshape(*sums.shape[:-1], self.groups, channels // self.groups)
        means = grouped.sum(-1) * scale
        return jax.lax.broadcast_in_dim(means, grouped.shape, range(means.ndim)).reshape(kept)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(x: Array, scale: Array, bias: Array | None, over: Statistics, dtype: jnp.dtype) -> Array:
    """y of the module's formula.

    Args:
      x: [..., C].
      scale, bias: [C]; no bias if None.
      over: the statistics.
      dtype: of the result.
    """
    return _forward(x, scale, bias, over, dtype)[0]


def _forward(x: Array, scale: Array, bias: Array | None, over: Statistics, dtype: jnp.dtype) -> tuple[Array, tuple]:
    gain = scale.reshape((1,) * (x.ndim - 1) + scale.shape)
    centred = x.astype(jnp.float32)
    mean = over.means(over.sums(centred), x)
    centred = centred - mean
    variance = over.means(over.sums(centred * centred), x)
    rate = jax.lax.rsqrt(jax.lax.max(variance, over.epsilon) if over.clamped else variance + over.epsilon)
    y = centred * (rate * gain)
    y = (y if bias is None else y + bias).astype(dtype)
    # x itself rather than what is made of it: it may be of half the size, and is there anyway.
    return y, (x, mean, rate, gain, bias)


def _backward(over: Statistics, dtype: jnp.dtype, kept: tuple, g: Array) -> tuple[Array, Array, Array | None]:
    x, mean, rate, gain, bias = kept
    g = g.astype(jnp.float32)
    normed = (x.astype(jnp.float32) - mean) * rate
    scaled = g * gain
    along, across = over.sums(g), over.sums(g * normed)
    own = gain.reshape((1,) * (along.ndim - 1) + gain.shape[-1:])
    slope = over.means(across * own, x)
    if over.clamped:
        slope = slope * (rate < over.epsilon**-0.5)
    dx = rate * (scaled - over.means(along * own if over.axes else scaled, x) - normed * slope)
    batch = range(along.ndim - 1)
    dscale, dbias = across.sum(batch).astype(gain.dtype), None
    if bias is not None:
        dbias = along.sum(batch).astype(bias.dtype)
    return dx.astype(x.dtype), dscale, dbias


normalize.defvjp(_forward, _backward)


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
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        axes = tuple(range(-1 - self.positions, -1))
        return normalize(x, scale, bias, Statistics(axes, self.groups, self.epsilon), self.dtype)


class ClampedNorm(nn.Module):
    """Norm over one axis with a gain per channel, no bias, and ε as the least variance."""

    axis: int
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        axis = self.axis % x.ndim - x.ndim
        axes, groups = ((), 1) if axis == -1 else ((axis,), x.shape[-1])
        return normalize(x, scale, None, Statistics(axes, groups, self.epsilon, clamped=True), self.dtype)


def layer_norm(dtype: jnp.dtype, name: str | None, epsilon: float = 1e-5) -> GroupNorm:
    """Layer norm over channels, with PyTorch's ε."""
    return GroupNorm(1, 0, epsilon, dtype, name=name)
