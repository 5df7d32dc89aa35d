"""Cross-modal attention X: the sublayers by which the U-Net of one modality attends to the environment of others.

At each site of `layout` with `connect`, a transformer block x acts on the features of the U-Net:

    X(h) = h + g · x(h, environment)

The gate g acts on the output of the block. Masking the environment tokens would not disable the block, since it also
has self-attention and a feed-forward, and a softmax over no tokens is undefined.
"""

import flax.linen as nn

from codi_jax.config import ConfigError
from codi_jax.nn.compute import Compute
from codi_jax.nn.config import UNetConfig
from codi_jax.nn.layout import BlockSite, input_steps, output_steps
from codi_jax.nn.remat import BLOCK, blockwise, named
from codi_jax.nn.transformer import Transformer
from codi_jax.types import Array, Tokens


class CrossModalAttention(nn.Module):
    """X of a modality, for the U-Net of `config`.

    Attributes:
      config: that of the U-Net.
      width: E of the environment tokens.
      compute: how it is computed.
    """

    config: UNetConfig
    width: int
    compute: Compute = Compute()

    def setup(self):
        def blocks(steps):
            make = blockwise(Transformer, self.compute.remat)
            sizes = self.config.heads, self.config.groups, self.config.vector_tokens, self.compute
            return {str(step.place[1]): make(*sizes) for step in steps if step.connect}

        self.inputs = blocks(input_steps(self.config))
        self.outputs = blocks(output_steps(self.config))

    def __call__(self, place: BlockSite, h: Array, environment: Tokens, gate: Array | None = None) -> Array:
        """Attends at one site.

        Args:
          place: site of the block before.
          h: its output features.
          environment: tokens [B, K, E] of the other outputs.
          gate: [B], multiplies the update; None for 1.

        Returns:
          Features of the shape of h.

        Raises:
          ConfigError: tokens of another width.
        """
        if environment.values.shape[-1] != self.width:
            width = environment.values.shape[-1]
            raise ConfigError(f"environment tokens of width {width}; the cross-modal attention takes {self.width}")
        side, index = place
        update = getattr(self, side)[str(index)](h, environment)
        if gate is not None:
            update = update * gate.astype(self.compute.dtype).reshape(-1, *(1,) * (h.ndim - 1))
        return named(h + update, BLOCK)
