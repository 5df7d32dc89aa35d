"""GPT-2 conditioned on a latent vector in every layer (the decoder of Optimus, arXiv 2004.04092).

A latent z enters twice:

    memory       m_l = W_l z is both key and value of one extra position of layer l, visible to every token;
    embedding    x_i = e(token_i) + p_{i+1} + W z. Position 0 is that of the memory.

Layers are pre-norm, gelu is the tanh approximation, ε of the norms is 1e-5, and the logits use the token table.

There is one forward pass. It writes keys and values of the tokens into a cache at `start` and attends to the cache up
to each token; a teacher-forced pass has all tokens and start 0, generation one token at a time.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import config_class
from codi_jax.nn.attention import attend, split_heads
from codi_jax.nn.layers import Dense, Embed
from codi_jax.nn.norms import layer_norm
from codi_jax.types import MASKED, Array

Cache = tuple[tuple[Array, Array], ...]  # per layer: keys and values, each [B, 1 + length, heads, width // heads]


@config_class()
class GPT2Config:
    """Sizes of a `GPT2`.

    Attributes:
      vocab: number of token ids.
      width: of the residual stream, a multiple of `heads`.
      layers: transformer layers.
      heads: attention heads.
      feed_forward: inner width of the feed-forward (4 width in the published model).
      positions: rows of the position table: one more than the longest sequence, since row 0 is that of the memory.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    positions: int


class GPT2Layer(nn.Module):
    """One pre-norm layer on tokens x [B, L, width] at positions start … start + L - 1 of the cache."""

    config: GPT2Config
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, cache: tuple[Array, Array], start: int | Array) -> tuple[Array, tuple[Array, Array]]:
        width = self.config.width

        def dense(name: str, y: Array, features: int = width) -> Array:
            return Dense(features, dtype=self.dtype, name=name)(y)

        qkv = dense("qkv", layer_norm(self.dtype, "norm1")(x), 3 * width)
        q, *new = (split_heads(y, self.config.heads) for y in jnp.split(qkv, 3, axis=-1))
        place = start + 1  # position 0 is the memory
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(old, y.astype(old.dtype), place, axis=1)
            for old, y in zip(cache, new, strict=True)
        )
        visible = jnp.arange(keys.shape[1]) <= place + jnp.arange(x.shape[1])[:, None]
        x = x + dense("out", attend(q, keys, values, jnp.where(visible, 0.0, MASKED)).reshape(x.shape))
        y = dense("fc1", layer_norm(self.dtype, "norm2")(x), self.config.feed_forward)
        return x + dense("fc2", jax.nn.gelu(y, approximate=True)), (keys, values)


class GPT2(nn.Module):
    """Tokens and a latent to logits."""

    config: GPT2Config
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        config = self.config
        self.token = Embed(config.vocab, config.width, dtype=self.dtype)
        self.position = nn.Embed(config.positions, config.width, dtype=self.dtype)
        self.memory = Dense(config.layers * config.width, use_bias=False, dtype=self.dtype)
        self.latent = Dense(config.width, use_bias=False, dtype=self.dtype)
        self.layer = [GPT2Layer(config, self.dtype) for _ in range(config.layers)]
        self.norm = layer_norm(self.dtype, None)

    def empty_cache(self, z: Array, length: int) -> Cache:
        """A cache for `length` tokens, with the memory of z [B, latent] at position 0.

        Raises:
          ValueError: the position table is too short for `length` tokens.
        """
        config = self.config
        if length + 1 > config.positions:
            raise ValueError(f"{length} tokens need {length + 1} positions, the table has {config.positions}")
        memory = self.memory(z).reshape(z.shape[0], config.layers, 1, config.heads, config.width // config.heads)
        padding = ((0, 0), (0, length), (0, 0), (0, 0))
        padded = (jnp.pad(memory[:, i], padding) for i in range(config.layers))
        return tuple((keys, keys) for keys in padded)

    def __call__(self, ids: Array, z: Array, cache: Cache | None = None, start: int | Array = 0) -> tuple[Array, Cache]:
        """Logits of the next token after each token.

        Args:
          ids: [B, L] integers, the tokens at positions start … start + L - 1.
          z: [B, latent].
          cache: the cache of an earlier call or of `empty_cache`, for at least start + L tokens; None for a pass over
            whole sequences.
          start: number of tokens in the cache; may be traced.

        Returns:
          Logits [B, L, vocab], float32, and the updated cache.
        """
        cache = self.empty_cache(z, ids.shape[1]) if cache is None else cache
        places = 1 + start + jnp.arange(ids.shape[1])
        x = self.token(ids) + self.position(places) + self.latent(z)[:, None]
        new = []
        for layer, layer_cache in zip(self.layer, cache, strict=True):
            x, layer_cache = layer(x, layer_cache, start)
            new.append(layer_cache)
        return self.token.attend(self.norm(x)).astype(jnp.float32), tuple(new)
