"""The environment encoder V: (z_t, t) to tokens that other modalities attend to.

A stem, residual blocks with a downsampling between levels, a head to width E; then one token per position, or their
mean. It has no attention and does not receive the prompt.
"""

import flax.linen as nn
import jax.numpy as jnp

from codi_jax.nn.compute import Compute
from codi_jax.nn.config import EnvironmentConfig
from codi_jax.nn.kinds import Head
from codi_jax.nn.layout import environment_steps
from codi_jax.nn.remat import blockwise
from codi_jax.nn.unet import Block, check_latent
from codi_jax.types import Array


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
        features = self.head(h).astype(jnp.float32)
        if self.config.tokens == "time":
            features = features.mean(tuple(range(2, features.ndim - 1)))
        tokens = features.reshape(z.shape[0], -1, self.config.width)
        if self.config.tokens == "pooled":
            tokens = tokens.mean(1, keepdims=True)
        if self.config.normalize:
            tokens = tokens / jnp.linalg.norm(tokens, axis=-1, keepdims=True)
        return tokens
