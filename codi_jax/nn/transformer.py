"""The transformer block of a U-Net, on the positions of a map, of the frames of a video or of a sequence, or the tokens
of a vector.

h' = GN(h) Wᵢₙ
h' += SelfAttention(LN h')          within a frame
h' += CrossAttention(LN h', context)
h' += GEGLU(LN h')
h  += h' Wₒᵤₜ                       Wₒᵤₜ initialised with zeros
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.nn.attention import Attention
from codi_jax.nn.compute import Compute
from codi_jax.nn.layers import Dense
from codi_jax.nn.norms import GroupNorm, layer_norm
from codi_jax.nn.remat import named
from codi_jax.types import Array, Tokens


def as_tokens(h: Array, vector_tokens: int) -> Array:
    """Features as tokens [B, F, P, C], P tokens in each of F frames.

    Args:
      h: [B, H, W, C], [B, T, H, W, C], [B, L, C], or a flat vector [B, C·vector_tokens] in channel-major order.
      vector_tokens: P for a vector.
    """
    if h.ndim == 2:
        return h.reshape(h.shape[0], 1, -1, vector_tokens).swapaxes(2, 3)
    frames = h.shape[1] if h.ndim == 5 else 1
    return h.reshape(h.shape[0], frames, -1, h.shape[-1])


def as_features(tokens: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `as_tokens`: tokens [B, F, P, C] as features of the given shape."""
    return (tokens.swapaxes(2, 3) if len(shape) == 2 else tokens).reshape(shape)


def repeat_batch(x: Array, batch: int) -> Array:
    """An array [B, …] repeated to [k·B, …], sample by sample in the same order; itself if it has the batch."""
    return x if x.shape[0] == batch else jnp.concatenate([x] * (batch // x.shape[0]))


class GEGLU(nn.Module):
    """Feed-forward [.., C] -> [.., C]: split x W + b into a | g; a·GELU(g) has width 4C."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        value, gate = jnp.split(Dense(8 * width, dtype=self.dtype, name="layer_in")(x), 2, axis=-1)
        hidden = named(value * jax.nn.gelu(gate, approximate=False), "feed_forward")
        return Dense(width, dtype=self.dtype, name="layer_out")(hidden)


class Transformer(nn.Module):
    """Returns the update, without the residual connection, so that a caller can gate it.

    Attributes:
      heads: attention heads.
      groups: groups of the first norm.
      vector_tokens: see `as_tokens`.
      compute: dtype and attention.
    """

    heads: int
    groups: int
    vector_tokens: int
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, h: Array, context: Tokens) -> Array:
        """h: features of any kind; context: [k·B, L, D] in k variants. Returns an update [k·B, …] of the shape of h."""
        dtype, attention = self.compute.dtype, self.compute.attention
        x = as_tokens(h, self.vector_tokens)
        batch, frames, positions, width = x.shape
        per_frame, whole = (batch * frames, positions, width), (batch, frames * positions, width)
        variants = context.values.shape[0]

        x = GroupNorm(self.groups, positions=1, epsilon=1e-6, dtype=dtype, name="norm")(x)
        x = Dense(width, dtype=dtype, name="project_in")(x).reshape(per_frame)
        x = x + Attention(self.heads, dtype, attention, name="self")(layer_norm(dtype, "norm_self")(x))
        # All frames attend to the same context, so that one call serves all frames without repeating the context.
        x = repeat_batch(x.reshape(whole), variants)
        x = x + Attention(self.heads, dtype, attention, name="cross")(layer_norm(dtype, "norm_cross")(x), context)
        x = x + GEGLU(dtype, name="feed_forward")(layer_norm(dtype, "norm_feed_forward")(x))
        project_out = Dense(width, dtype=dtype, kernel_init=nn.initializers.zeros, name="project_out")
        return as_features(project_out(x).reshape(variants, frames, positions, width), (variants, *h.shape[1:]))
