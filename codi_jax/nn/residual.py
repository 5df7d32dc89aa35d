"""Residual block with the time embedding added between its two layers, for maps, sequences and vectors.

    h + L₂ SiLU N(L₁ SiLU N(h) + W SiLU(emb))        with a linear layer on h where the width changes

L is a 3×3 convolution of each frame of a map, a convolution of width 3 of a sequence, or a dense layer of a flat
vector; L₂ is initialised with zeros.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.nn.layers import Dense
from codi_jax.nn.norms import GroupNorm
from codi_jax.nn.remat import named
from codi_jax.types import Array


class Residual(nn.Module):
    """A residual block.

    Attributes:
      width: size of the last axis of the result, for a vector with its tokens flattened.
      groups: groups of the norms.
      positions: 2 for maps, 1 for sequences, 0 for vectors, see `GroupNorm`.
      layer: (width, name, zero) -> a layer of the kind.
      dtype: of the computation.
    """

    width: int
    groups: int
    positions: int
    layer: Callable[..., nn.Module]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Array, emb: Array) -> Array:
        """h: features of any kind; emb: [B, 4·channels]. Returns features of the new width."""

        def normed(x: Array, name: str) -> Array:
            return GroupNorm(self.groups, self.positions, dtype=self.dtype, silu=True, name=name)(x)

        x = named(self.layer(self.width, "layer_in", False)(normed(h, "norm_in")), "convolution")
        emb = Dense(self.width, dtype=self.dtype, name="emb")(jax.nn.silu(emb))
        x = x + emb.reshape(emb.shape[0], *(1,) * (x.ndim - 2), self.width)
        x = self.layer(self.width, "layer_out", True)(normed(x, "norm_out"))
        if h.shape[-1] != self.width:
            h = Dense(self.width, dtype=self.dtype, name="skip")(h)
        return h + x
