"""The denoiser of a modality: its U-Net and, for joint generation, its cross-modal attention."""

import flax.linen as nn
import jax.numpy as jnp

from codi_jax.config import ConfigError
from codi_jax.nn.compute import Compute
from codi_jax.nn.config import UNetConfig
from codi_jax.nn.cross_modal import CrossModalAttention
from codi_jax.nn.layout import BlockSite
from codi_jax.nn.unet import Connect, UNet
from codi_jax.types import Array, Tokens


class Denoiser(nn.Module):
    """U-Net and cross-modal attention, with parameters {'unet': ..., 'cross': ...}.

    The two are separate subtrees, so that they are separate components and modalities can share one U-Net.

    Attributes:
      config: that of the U-Net.
      cross_width: E of the environment tokens; None for a denoiser without cross-modal attention.
      compute: how it is computed.
      alias_skip: see `UNet.__call__`.
    """

    config: UNetConfig
    cross_width: int | None = None
    compute: Compute = Compute()
    alias_skip: bool = False

    def setup(self):
        self.unet = UNet(self.config, self.compute)
        if self.cross_width is not None:
            self.cross = CrossModalAttention(self.config, self.cross_width, self.compute)

    def embed_time(self, t: Array) -> Array:
        """See `UNet.embed_time`."""
        return self.unet.embed_time(t)

    def __call__(
        self, z: Array, t: Array, context: Tokens, environment: Tokens | None = None, gate: Array | None = None
    ) -> Array:
        """Predicts from a noisy latent.

        Args:
          z: [B, H, W, C], [B, T, H, W, C], [B, L, C] or [B, C].
          t: timesteps [B], or [1] for all samples.
          context: prompt tokens [B, L, D], or [k·B, L, D] for k variants, see `UNet`.
          environment: tokens [B', K, E] of the other outputs, for the last B' <= k·B samples; the others have
            no cross-modal attention. None if no sample has.
          gate: [B'], see `CrossModalAttention`.

        Returns:
          The prediction [B, …] or [k·B, …], of the shape of a sample and the dtype of z.

        Raises:
          ConfigError: an environment for a denoiser without cross-modal attention; see also `UNet`.
        """
        connect: Connect | None = None
        if environment is not None:
            if self.cross_width is None:
                raise ConfigError("environment tokens for a denoiser without cross-modal attention")

            def attend(place: BlockSite, h: Array) -> Array:
                without = h.shape[0] - environment.values.shape[0]
                connected = self.cross(place, h[without:], environment, gate)
                return jnp.concatenate([h[:without], connected]) if without else connected

            connect = attend

        return self.unet(z, t, context, connect, self.alias_skip)
