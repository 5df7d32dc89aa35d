"""Norms, optionally followed by SiLU, with a custom backward pass in closed form; statistics are float32, or wider.

With mean μ and variance σ² over a set S of elements, and the gradient g_i of y_i,

    r = 1 / √(σ² + ε)        x̂_i = (x_i − μ) · r        y_i = x̂_i · scale + bias
    h_i = g_i · scale        dx_i = r · (h_i − mean_S(h) − x̂_i · mean_S(h · x̂))

Group norm: S is a group of channels over all positions. Layer norm: all channels of one position. Clamped norm: one
axis, with r = 1 / √max(σ², ε), whose last term is 0 where σ² < ε, and no bias. The release uses it over channels and,
in its temporal attention, over *frames*, which removes the mean over frames of each (position, channel) pair.

With automatic differentiation a norm has twice as many kernels and more residuals for the backward pass; in networks as
small as the demo's, norms would then be most of the compilation. A SiLU after the norm is part of it: then only x is
kept for the backward pass, not y too.

From half-precision x the variance of a norm that is not clamped is E[x²] − μ², in the same pass over x as the mean: its
error, of the order of float32's rounding times μ²/σ², is below that of x itself as long as |μ| < 100 σ. Otherwise it is
E[(x − μ)²].
"""

import dataclasses
import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.nn.parameters import ReadsParameters
from codi_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Statistics:
    """The set of elements that a norm computes mean and variance over.

    Attributes:
      axes: axes of positions, negative numbers; () for each position separately.
      groups: number of groups of the channels (the last axis).
      epsilon: ε.
      clamped: the variance is clamped to at least ε; otherwise ε is added.
    """

    axes: tuple[int, ...]
    groups: int
    epsilon: float
    clamped: bool = False

    def sums(self, x: Array) -> Array:
        """Sums over `axes` for every channel."""
        return x.sum(self.axes) if self.axes else x

    def means(self, sums: Array, like: Array) -> Array:
        """Means over S from the `sums` of an array of the shape of `like`, to which the result broadcasts."""
        channels = sums.shape[-1]
        shape = [1 if axis - like.ndim in self.axes else length for axis, length in enumerate(like.shape)]
        scale = self.groups / (math.prod(like.shape[axis] for axis in self.axes) * channels)
        if self.groups == channels:
            return (sums * scale).reshape(shape)
        if self.groups == 1:
            return (sums.sum(-1) * scale).reshape(*shape[:-1], 1)
        grouped = sums.reshape(*sums.shape[:-1], self.groups, channels // self.groups)
        means = grouped.sum(-1) * scale
        return jax.lax.broadcast_in_dim(means, grouped.shape, range(means.ndim)).reshape(shape)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normalize(
    x: Array, scale: Array, bias: Array | None, over: Statistics, dtype: DTypeLike, silu: bool = False
) -> Array:
    """y of the module's formula, or SiLU(y), of the shape of x.

    Args:
      x: [..., C].
      scale, bias: [C]; no bias if None.
      over: the set S.
      dtype: of the result.
      silu: apply SiLU.
    """
    return _forward(x, scale, bias, over, dtype, silu)[0]


def _wide(x: Array) -> DTypeLike:
    """The dtype of statistics and sums: float32, or wider if x is."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _forward(
    x: Array, scale: Array, bias: Array | None, over: Statistics, dtype: DTypeLike, silu: bool
) -> tuple[Array, tuple]:
    gain = scale.reshape((1,) * (x.ndim - 1) + scale.shape)
    wide = x.astype(_wide(x))
    mean = over.means(over.sums(wide), x)
    centred = wide - mean
    if jnp.finfo(x.dtype).bits < 32 and not over.clamped:
        variance = jnp.maximum(over.means(over.sums(wide * wide), x) - mean * mean, 0)
    else:
        variance = over.means(over.sums(centred * centred), x)
    rate = jax.lax.rsqrt(
        jax.lax.max(variance, variance.dtype.type(over.epsilon)) if over.clamped else variance + over.epsilon
    )
    y = centred * (rate * gain)
    y = y if bias is None else y + bias
    # The residual is x, not `centred`: it may have half the size, and it is in memory anyway.
    return (jax.nn.silu(y) if silu else y).astype(dtype), (x, mean, rate, gain, bias)


def _backward(
    over: Statistics, dtype: DTypeLike, silu: bool, residuals: tuple, g: Array
) -> tuple[Array, Array, Array | None]:
    x, mean, rate, gain, bias = residuals
    g = g.astype(_wide(x))
    normed = (x.astype(_wide(x)) - mean) * rate
    if silu:
        y = normed * gain if bias is None else normed * gain + bias
        sigmoid = jax.nn.sigmoid(y)
        g = g * sigmoid * (1 + y * (1 - sigmoid))
    scaled = g * gain
    sum_g, sum_gx = over.sums(g), over.sums(g * normed)
    channel_gain = gain.reshape((1,) * (sum_g.ndim - 1) + gain.shape[-1:])
    slope = over.means(sum_gx * channel_gain, x)
    if over.clamped:
        slope = slope * (rate < over.epsilon**-0.5)
    dx = rate * (scaled - over.means(sum_g * channel_gain if over.axes else scaled, x) - normed * slope)
    batch = range(sum_g.ndim - 1)
    dscale, dbias = sum_gx.sum(batch).astype(gain.dtype), None
    if bias is not None:
        dbias = sum_g.sum(batch).astype(bias.dtype)
    return dx.astype(x.dtype), dscale, dbias


normalize.defvjp(_forward, _backward)


class GroupNorm(ReadsParameters, nn.Module):
    """Group norm over the channels and the last `positions` axes before them; the other axes are batch axes.

    Attributes:
      groups: G.
      positions: 2 for maps [..., H, W, C], each frame of a video separately; 1 for tokens [..., L, C]; 0 for vectors
        [..., C].
      epsilon: ε.
      dtype: of the result.
      silu: apply SiLU to the result.
    """

    groups: int
    positions: int
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32
    silu: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        axes = tuple(range(-1 - self.positions, -1))
        return normalize(x, scale, bias, Statistics(axes, self.groups, self.epsilon), self.dtype, self.silu)


class ClampedNorm(ReadsParameters, nn.Module):
    """Norm over one axis with a scale per channel, no bias, and the variance clamped to at least ε."""

    axis: int
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        axis = self.axis % x.ndim - x.ndim
        axes, groups = ((), 1) if axis == -1 else ((axis,), x.shape[-1])
        return normalize(x, scale, None, Statistics(axes, groups, self.epsilon, clamped=True), self.dtype)


def layer_norm(dtype: DTypeLike, name: str | None, epsilon: float = 1e-5) -> GroupNorm:
    """Layer norm over channels, with PyTorch's ε."""
    return GroupNorm(1, 0, epsilon, dtype, name=name)
