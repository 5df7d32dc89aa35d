"""Cross-modal attention X: the sublayers by which one modality's U-Net attends to the environments of others.

At each place of the plan that connects, a transformer block x on the U-Net's features:

    X(h) = h + g · x(h, environment)

The gate g acts on the block's output. Masking the environment's tokens would not switch it off, since the block also
holds self-attention and a feed-forward, and a softmax over nothing is undefined.
"""

import flax.linen as nn
import jax.numpy as jnp

from codi_jax.config import ConfigError
from codi_jax.nn.config import UNetConfig
from codi_jax.nn.layout import BlockSite, input_steps, output_steps
from codi_jax.nn.transformer import Transformer
from codi_jax.types import Array, Tokens


class CrossModalAttention(nn.Module):
    """X of a modality, for the U-Net of `config`.

    Attributes:
      config: of the U-Net.
      width: E of the environment tokens.
      dtype: of the computation; parameters are float32.
      remat: recompute each block's activations in the backward pass.
    """

    config: UNetConfig
    width: int
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self):
        def blocks(steps):
            make = nn.remat(Transformer) if self.remat else Transformer
            sizes = self.config.heads, self.config.groups, self.config.vector_tokens, self.dtype
            return {str(step.place[1]): make(*sizes) for step in steps if step.connect}

        self.inputs = blocks(input_steps(self.config))
        self.outputs = blocks(output_steps(self.config))

    def __call__(self, place: BlockSite, h: Array, environment: Tokens, gate: Array | None = None) -> Array:
        """Attends at one place.

        Args:
          place: of the step just made.
          h: its features.
          environment: tokens [B, K, E] of the others.
          gate: [B], 0 to leave a sample's features as they are; None is 1.

        Returns:
          Features of the shape of h.
        """
        if environment.values.shape[-1] != self.width:
            given = environment.values.shape[-1]
            raise ConfigError(f"environment tokens of width {given}; the cross-modal attention takes {self.width}")
        side, index = place
        update = getattr(self, side)[str(index)](h, environment)
        if gate is not None:
            update = update * gate.astype(self.dtype).reshape(-1, *(1,) * (h.ndim - 1))
        return h + update
