"""BERT (arXiv 1810.04805): a bidirectional post-norm transformer.

    h = LN(e_token + e_position + e_type),      h = LN(h + attention(h)),      h = LN(h + W₂ gelu(W₁ h)),
    pooled = tanh(W h₀)

gelu is the exact one (erf); ε of the norms is 1e-12. Id 0 is padding: 1e4 is subtracted from its key scores.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import config_class
from codi_jax.nn.attention import attend, split_heads
from codi_jax.nn.layers import Dense
from codi_jax.nn.norms import layer_norm
from codi_jax.parallel.activations import constrain
from codi_jax.types import Array

PAD = 0
PADDING_BIAS = -1e4


@config_class()
class BertConfig:
    """Sizes of a `Bert`.

    Attributes:
      vocab: number of token ids; 0 is padding.
      width: of the residual stream, a multiple of `heads`.
      layers: transformer layers.
      heads: attention heads.
      feed_forward: inner width of the feed-forward.
      positions: longest sequence.
      types: token types (only type 0 is used; the table is part of published weights).
    """

    vocab: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    positions: int
    types: int = 2


def _norm(dtype: DTypeLike, name: str) -> nn.Module:
    return layer_norm(dtype, name, epsilon=1e-12)


class BertLayer(nn.Module):
    """One post-norm transformer layer on x [B, L, width]; bias [B, 1, 1, L] is added to the scores."""

    config: BertConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, bias: Array) -> Array:

        def dense(name: str, y: Array, features: int = self.config.width) -> Array:
            return Dense(features, dtype=self.dtype, name=name)(y)

        q, k, v = (split_heads(dense(name, x), self.config.heads) for name in ("query", "key", "value"))
        y = dense("out", attend(q, k, v, bias).reshape(x.shape))
        x = _norm(self.dtype, "attention_norm")(x + y)
        y = jax.nn.gelu(dense("fc1", x, self.config.feed_forward), approximate=False)
        return _norm(self.dtype, "norm")(x + dense("fc2", y))


class BertEmbeddings(nn.Module):
    """Layer norm of the sum of token, position and type-0 embeddings: ids [B, L] to [B, L, width]."""

    config: BertConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        config = self.config

        def table(size: int, name: str, index: Array) -> Array:
            return nn.Embed(size, config.width, dtype=self.dtype, name=name)(index)

        x = constrain(table(config.vocab, "token", ids), "batch")
        x = x + table(config.positions, "position", jnp.arange(ids.shape[1]))
        return _norm(self.dtype, "norm")(x + table(config.types, "type", jnp.zeros_like(ids)))


class Bert(nn.Module):
    """Token ids to a pooled vector."""

    config: BertConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        """The pooled state of the first token.

        Args:
          ids: [B, L] integers, 0 for padding.

        Returns:
          [B, width].

        Raises:
          ValueError: L exceeds `config.positions`.
        """
        if ids.shape[1] > self.config.positions:
            raise ValueError(f"{ids.shape[1]} tokens exceed the {self.config.positions} positions")
        bias = jnp.where(ids > PAD, 0.0, PADDING_BIAS)[:, None, None, :]
        x = BertEmbeddings(self.config, self.dtype, name="embeddings")(ids)
        for i in range(self.config.layers):
            x = BertLayer(self.config, self.dtype, name=f"layer_{i}")(x, bias)
        return jnp.tanh(Dense(self.config.width, dtype=self.dtype, name="pooler")(x[:, 0]))
