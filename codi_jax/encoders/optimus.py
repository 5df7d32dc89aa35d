"""Optimus (arXiv 2004.04092), an autoencoder of sentences with one latent vector: BERT encodes, GPT-2 decodes.

    (μ, log σ²) = W pooled(ids),        p(ids | z) = Π_i p(id_i | id_<i, z)

Encoder and decoder may have different vocabularies. Generation starts at <bos>, samples
id_i ~ softmax(logits / temperature) and ends at <eos>, followed by <pad>. As in the public CoDi release, the last token
of a sequence that reaches the length limit is replaced by <eos>.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import config_class
from codi_jax.encoders.bert import Bert, BertConfig
from codi_jax.encoders.gpt2 import GPT2, GPT2Config
from codi_jax.nn.layers import Dense
from codi_jax.types import Array


@config_class()
class OptimusConfig:
    """Sizes and special ids of an `Optimus`.

    Attributes:
      encoder: BERT sizes.
      decoder: GPT-2 sizes.
      latent: width of z.
      bos: the decoder's id of <bos>.
      eos: the decoder's id of <eos>.
      pad: the decoder's id of <pad>.
    """

    encoder: BertConfig
    decoder: GPT2Config
    latent: int
    bos: int
    eos: int
    pad: int


class Optimus(nn.Module):
    """The sentence autoencoder."""

    config: OptimusConfig
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.encoder = Bert(self.config.encoder, self.dtype)
        self.moments = Dense(2 * self.config.latent, use_bias=False, dtype=self.dtype)
        self.decoder = GPT2(self.config.decoder, self.dtype)

    def encode(self, ids: Array) -> tuple[Array, Array]:
        """Posterior of z given the encoder's ids [B, L], padded with 0: mean and log-variance, float32 [B, latent]."""
        mean, logvar = jnp.split(self.moments(self.encoder(ids)).astype(jnp.float32), 2, axis=-1)
        return mean, logvar

    def decode_logits(self, z: Array, ids: Array) -> Array:
        """Teacher forcing: logits [B, L, vocab] of the next token after each of the decoder's ids [B, L], given z."""
        return self.decoder(ids, z)[0]

    def __call__(self, ids: Array, decoder_ids: Array, rng: jax.Array | None = None) -> tuple[Array, Array, Array]:
        """`decode_logits` at z sampled from its posterior (the mean if rng is None), mean and log-variance."""
        mean, logvar = self.encode(ids)
        noise = 0.0 if rng is None else jax.random.normal(rng, mean.shape)
        return self.decode_logits(mean + jnp.exp(0.5 * logvar) * noise, decoder_ids), mean, logvar

    def generate(
        self,
        z: Array,
        rng: jax.Array,
        temperature: float | Array = 1.0,
        max_length: int = 30,
        beginning: Array | None = None,
    ) -> Array:
        """Samples sequences given z, in one scan with a key-value cache; to be called under jit.

        Args:
          z: [B, latent].
          rng: key; position i samples with fold_in(rng, i).
          temperature: of the softmax, may be traced; 0 takes the likeliest token.
          max_length: number of tokens including <bos> and <eos>, at least 2; static.
          beginning: ids [B, max_length] that sequences begin with: <bos>, …, and <pad> from where they go on.

        Returns:
          Ids [B, max_length], int32: <bos>, …, <eos>, <pad>, …

        Raises:
          ValueError: max_length is less than 2 or exceeds the decoder's position table.
        """
        if max_length < 2:
            raise ValueError(f"max_length is {max_length}; <bos> and <eos> alone take 2")
        config = self.config
        decoder, variables = self.decoder.unbind()  # for jax.lax.scan: generation creates no variables
        greedy = jnp.asarray(temperature) == 0

        def step(carry, at):
            (place, given), (token, done, cache) = at, carry
            logits, cache = decoder.apply(variables, token[:, None], z, cache, place)
            logits = logits[:, 0]
            drawn = jax.random.categorical(jax.random.fold_in(rng, place), logits / jnp.where(greedy, 1.0, temperature))
            token = jnp.where(greedy, logits.argmax(-1), drawn)
            token = jnp.where(place == max_length - 2, config.eos, token)
            token = token if given is None else jnp.where(given == config.pad, token, given)
            token = jnp.where(done, config.pad, token).astype(jnp.int32)
            return (token, done | (token == config.eos), cache), token

        first = jnp.full((z.shape[0],), config.bos, jnp.int32)
        cache = decoder.apply(variables, z, max_length - 1, method="empty_cache")
        start = (first, jnp.zeros(first.shape, bool), cache)
        given = None if beginning is None else beginning[:, 1:].T
        _, rest = jax.lax.scan(step, start, (jnp.arange(max_length - 1), given))
        return jnp.concatenate([first[:, None], rest.T], axis=1)
