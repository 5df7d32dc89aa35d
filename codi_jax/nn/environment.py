"""The environment encoder V: (z_t, t) to tokens that other modalities attend to.

A stem, residual blocks with a downsampling between levels, a head to width E; then one token per position, or their
mean; or one token per time, by a head that reads all positions of its frame or column, since where something is tells
when it turns. It has no attention but over frames and does not receive the prompt.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.nn.compute import Compute
from codi_jax.nn.config import EnvironmentConfig
from codi_jax.nn.kinds import Head
from codi_jax.nn.layers import Dense
from codi_jax.nn.layout import environment_steps
from codi_jax.nn.norms import GroupNorm
from codi_jax.nn.remat import blockwise
from codi_jax.nn.unet import Block, check_latent
from codi_jax.types import Array


class TimeHead(nn.Module):
    """Features [B, T, …, C] -> tokens [B, T, E]: norm, SiLU, and a dense layer of all features of one time."""

    config: EnvironmentConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Array) -> Array:
        norm = GroupNorm(self.config.groups, positions=h.ndim - 2, dtype=self.dtype, silu=True, name="norm")
        return Dense(self.config.width, dtype=self.dtype, name="layer")(norm(h).reshape(*h.shape[:2], -1))


class EnvironmentEncoder(nn.Module):
    """V of a modality.

    Attributes:
      config: its sizes.
      compute: how it is computed.
    """

    config: EnvironmentConfig
    compute: Compute = Compute()

    def setup(self):
        block = blockwise(Block, self.compute.remat)
        self.stages = [block(self.config, step, self.compute) for step in environment_steps(self.config)]
        if self.config.tokens == "time":
            self.head = TimeHead(self.config, self.compute.dtype)
        else:
            self.head = Head(self.config, self.config.width, zero=False, dtype=self.compute.dtype)

    def __call__(self, z: Array, emb: Array) -> Array:
        """Encodes a noisy latent.

        Args:
          z: [B, H, W, C], [B, T, H, W, C], [B, L, C] or [B, C].
          emb: [B, 4·channels], the time embedding of the same modality's U-Net.

        Returns:
          Tokens [B, K, E] in float32. K = 1 for pooled tokens and for vectors, the number of frames or columns of the
          last block for tokens in time, else the number of its positions, over all frames.

        Raises:
          ConfigError: a latent of other sizes than the config's.
        """
        check_latent(self.config, z)
        h = z.astype(self.compute.dtype)
        for stage in self.stages:
            h = stage(h, emb)
        tokens = self.head(h).astype(jnp.float32).reshape(z.shape[0], -1, self.config.width)
        if self.config.tokens == "pooled":
            tokens = tokens.mean(1, keepdims=True)
        if self.config.normalize:
            tokens = tokens / jnp.linalg.norm(tokens, axis=-1, keepdims=True)
        return tokens
