"""Swin transformer over a grid of cells (arXiv 2103.14030): attention within windows, and patch merging.

    block   x = x + attention(LN(x)) within windows of w × w cells,  x = x + W₂ gelu(W₁ LN(x))
    merge   2 × 2 cells are merged into one of twice the width: [H, W, C] -> [H/2, W/2, 2C]

A block may shift its windows by a cyclic roll of the grid; a mask prevents attention between cells that are adjacent
only by the roll. The scores have a learned bias for every head and offset between two cells,

    softmax(q·k / √d + table[offset] + mask) v.
"""

import math
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from codi_jax.nn.attention import attend, split_heads
from codi_jax.nn.layers import Dense
from codi_jax.nn.norms import layer_norm
from codi_jax.types import Array

AnyArray = TypeVar("AnyArray", Array, np.ndarray)

# The published weights were trained with this instead of MASKED; its exponential vanishes in float32.
SHIFT_MASKED = -100.0


def relative_index(window: int) -> np.ndarray:
    """Index into the bias table for every pair of cells of a window, [w², w²], row-major over the offsets."""
    cell = np.stack(np.divmod(np.arange(window**2), window))
    down, across = cell[:, :, None] - cell[:, None, :] + window - 1
    return down * (2 * window - 1) + across


def windows(x: AnyArray, side: int) -> AnyArray:
    """[..., H, W, C] -> [..., H W / side², side², C], row-major."""
    *batch, height, width, features = x.shape
    x = x.reshape(*batch, height // side, side, width // side, side, features).swapaxes(-4, -3)
    return x.reshape(*batch, -1, side**2, features)


def unwindows(x: Array, grid: tuple[int, int], side: int) -> Array:
    """The inverse of `windows`."""
    (height, width), (*batch, _, _, features) = grid, x.shape
    x = x.reshape(*batch, height // side, width // side, side, side, features).swapaxes(-4, -3)
    return x.reshape(*batch, height, width, features)


def shift_mask(grid: tuple[int, int], side: int, shift: int) -> np.ndarray:
    """Mask of the scores within every shifted window, [H W / side², side², side²]: 0 or `SHIFT_MASKED`.

    After a roll of the grid by `shift`, the last window along an axis contains cells from both edges of the grid.
    """
    down, across = (np.digitize(np.arange(length), (length - side, length - shift)) for length in grid)
    region = windows(3 * down[:, None, None] + across[None, :, None], side)[..., 0]
    return np.where(region[:, :, None] == region[:, None, :], 0.0, SHIFT_MASKED).astype(np.float32)


class WindowAttention(nn.Module):
    """Self-attention within windows of `side`² cells, shifted by `shift`."""

    heads: int
    side: int
    shift: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C]. Returns an array of the same shape."""
        grid, features, cells = (x.shape[1], x.shape[2]), x.shape[-1], self.side**2
        table = self.param("table", nn.initializers.truncated_normal(0.02), ((2 * self.side - 1) ** 2, self.heads))
        bias = table.astype(jnp.float32)[relative_index(self.side)].transpose(2, 0, 1)  # [heads, cells, cells]
        bias = jnp.broadcast_to(bias, (math.prod(grid) // cells, *bias.shape))
        if self.shift:
            bias = bias + shift_mask(grid, self.side, self.shift)[:, None]
            x = jnp.roll(x, (-self.shift, -self.shift), (1, 2))
        y = Dense(3 * features, dtype=self.dtype, name="qkv")(windows(x, self.side))
        q, k, v = (split_heads(part, self.heads) for part in jnp.split(y, 3, axis=-1))
        y = jax.vmap(attend, in_axes=(1, 1, 1, 0), out_axes=1)(q, k, v, bias)  # [B, windows, cells, heads, d]
        y = Dense(features, dtype=self.dtype, name="out")(y.reshape(*y.shape[:3], features))
        y = unwindows(y, grid, self.side)
        return jnp.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y


class SwinBlock(nn.Module):
    """One pre-norm block: attention within windows and a feed-forward of width `feed_forward`."""

    heads: int
    side: int
    shift: int
    feed_forward: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C]. Returns an array of the same shape."""
        attention = WindowAttention(self.heads, self.side, self.shift, self.dtype, name="attention")
        x = x + attention(layer_norm(self.dtype, "norm1")(x))
        y = Dense(self.feed_forward, dtype=self.dtype, name="fc1")(layer_norm(self.dtype, "norm2")(x))
        return x + Dense(x.shape[-1], dtype=self.dtype, name="fc2")(nn.gelu(y, approximate=False))


class Merge(nn.Module):
    """Patch merging: concatenates cells (row, column) = (0, 0), (1, 0), (0, 1), (1, 1), norm, then 4C to 2C."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x [B, H, W, C] to [B, H/2, W/2, 2C]."""
        batch, height, width, features = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, features).transpose(0, 1, 3, 4, 2, 5)
        x = layer_norm(self.dtype, "norm")(x.reshape(batch, height // 2, width // 2, 4 * features))
        return Dense(2 * features, use_bias=False, dtype=self.dtype, name="reduction")(x)
