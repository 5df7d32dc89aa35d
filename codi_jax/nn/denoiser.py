"""The denoiser of a modality: its U-Net and, for joint generation, its cross-modal attention and attention in time."""

import flax.linen as nn
import jax.numpy as jnp

from codi_jax.config import ConfigError
from codi_jax.nn.compute import Compute
from codi_jax.nn.config import TimingConfig, UNetConfig
from codi_jax.nn.cross_modal import CrossModalAttention
from codi_jax.nn.layout import BlockSite, cross_modal_steps, timing_steps
from codi_jax.nn.timing import TimingAttention
from codi_jax.nn.unet import Connect, UNet
from codi_jax.types import Array, Tokens


class Denoiser(nn.Module):
    """U-Net, cross-modal attention and attention in time, with parameters {'unet': ..., 'cross': ..., 'timed': ...}.

    They are separate subtrees, so that they are separate components and modalities can share one U-Net.

    Attributes:
      config: that of the U-Net.
      cross_width: E of the environment tokens; None for a denoiser without cross-modal attention.
      compute: how it is computed.
      alias_skip: see `UNet.__call__`.
      timing: of attention in time; None for none.
      duration: of the output, in seconds; for attention in time.
    """

    config: UNetConfig
    cross_width: int | None = None
    compute: Compute = Compute()
    alias_skip: bool = False
    timing: TimingConfig | None = None
    duration: float = 0.0

    def setup(self):
        self.unet = UNet(self.config, self.compute)
        if self.cross_width is not None:
            self.cross = CrossModalAttention(self.config, self.cross_width, self.compute)
        if self.timing is not None:
            self.timed = TimingAttention(self.timing, self.config, self.duration, self.compute)

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

            crossed = {step.place for step in cross_modal_steps(self.config)}
            timed = set[BlockSite]()
            if self.timing is not None and environment.timed is not None:
                timed = {step.place for step in timing_steps(self.config, self.timing.levels)}

            def attend(place: BlockSite, h: Array) -> Array:
                without = h.shape[0] - environment.values.shape[0]
                connected = h[without:]
                if place in crossed:
                    connected = self.cross(place, connected, environment, gate)
                if place in timed:
                    assert environment.timed is not None, "or there would be no such site"
                    connected = self.timed(place, connected, environment.timed)
                return jnp.concatenate([h[:without], connected]) if without else connected

            connect = Connect(frozenset(crossed | timed), attend)

        return self.unet(z, t, context, connect, self.alias_skip)
