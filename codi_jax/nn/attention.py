"""Multi-head attention over weighted tokens.

    o = Σ_l softmax_l(q·k_l / √d + b_l) v_l

With b_l = log w_l a token counts w_l times; b_l = MASKED masks it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.types import Array, Tokens


def attend(q: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
    """Softmax attention, with scores and softmax in float32.

    Args:
      q: queries [B, P, N, d].
      k, v: keys and values [B, L, N, d].
      bias: added to the scores; broadcasts to [B, N, P, L].

    Returns:
      [B, P, N, d] in the dtype of v.
    """
    scores = jnp.einsum("bpnd,blnd->bnpl", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bnpl,blnd->bpnd", weights, v)


def split_heads(x: Array, heads: int) -> Array:
    """[..., N·d] -> [..., N, d]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


class Attention(nn.Module):
    """Cross-attention of tokens to a context or, without one, self-attention.

    Queries, keys and values have the width of the tokens and no bias; the output layer has a bias.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, context: Tokens | None = None) -> Array:
        """x: [B, P, C]; context: [B, L, D]. Returns [B, P, C]."""
        source = x if context is None else context.values.astype(self.dtype)
        bias = None if context is None else context.bias[:, None, None, :]

        def project(values: Array, name: str) -> Array:
            y = nn.Dense(x.shape[-1], use_bias=False, dtype=self.dtype, name=name)(values)
            return split_heads(y, self.heads)

        y = attend(project(x, "query"), project(source, "key"), project(source, "value"), bias)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="out")(y.reshape(x.shape))
