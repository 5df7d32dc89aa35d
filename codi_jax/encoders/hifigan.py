"""HiFi-GAN generator (Kong, Kim and Bae, arXiv 2010.05646, V1): log-mel spectrogram to waveform.

    h = conv(mel);   h = meanⱼ resⱼ(upsample(leaky(h)))  for each rate;   wave = tanh(conv(leaky'(h)))
    res(h):          h = h + conv(leaky(conv_d(leaky(h))))  for each dilation d

Each upsampling is a transposed convolution that halves the channels. leaky has slope 0.1, and leaky' 0.01, as the
published weights expect. An upsampling by u with kernel k maps L samples to u·L + ((k − u) mod 2): the public weights,
whose first (k, u) is (16, 5), map L frames to 160 L + 32 samples.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import ConfigError, config_class
from codi_jax.nn.layers import Conv
from codi_jax.types import Array


@config_class()
class HiFiGANConfig:
    """Sizes of a `HiFiGAN`.

    Attributes:
      mels: mel bins of the spectrogram.
      channels: channels before the first upsampling; halved by each.
      rates: of the upsamplings; their product is the hop of the spectrogram.
      kernels: of the upsamplings, each at least its rate.
      res_kernels: odd; one residual block for each, in parallel after every upsampling.
      res_dilations: dilations of the layers of each of those blocks.

    Raises:
      ConfigError: sizes that do not fit together.
    """

    mels: int
    channels: int
    rates: tuple[int, ...]
    kernels: tuple[int, ...]
    res_kernels: tuple[int, ...]
    res_dilations: tuple[tuple[int, ...], ...]

    def __post_init__(self):
        if len(self.rates) != len(self.kernels) or any(k < u for u, k in zip(self.rates, self.kernels, strict=False)):
            raise ConfigError(
                f"kernels: {self.kernels} must have one entry per rate in {self.rates}, at least the rate"
            )
        if len(self.res_kernels) != len(self.res_dilations) or not all(k % 2 for k in self.res_kernels):
            raise ConfigError(f"res_kernels: {self.res_kernels} must be odd, with one entry per entry of res_dilations")
        if self.channels % 2 ** len(self.rates):
            raise ConfigError(f"channels: {self.channels} cannot be halved {len(self.rates)} times")

    def samples(self, frames: int) -> int:
        """Samples of the wave of a spectrogram of `frames` frames."""
        for rate, kernel in zip(self.rates, self.kernels, strict=True):
            frames = rate * frames + (kernel - rate) % 2
        return frames


class DilatedResBlock(nn.Module):
    """Layers of increasing dilation, each with its own residual.

    Attributes:
      kernel: size of every convolution, odd.
      dilations: of each layer's first convolution; the second has none.
      dtype: compute type.
    """

    kernel: int
    dilations: tuple[int, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, L, C]. Returns an array of the same shape."""

        def conv(name: str, y: Array, dilation: int) -> Array:
            layer = Conv(x.shape[-1], (self.kernel,), kernel_dilation=dilation, dtype=self.dtype, name=name)
            return layer(nn.leaky_relu(y, 0.1))

        for i, dilation in enumerate(self.dilations):
            x = x + conv(f"conv2_{i}", conv(f"conv1_{i}", x, dilation), 1)
        return x


class HiFiGAN(nn.Module):
    """The generator."""

    config: HiFiGANConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, log_mel: Array) -> Array:
        """Maps spectrograms [B, frames, mels] to waves [B, config.samples(frames)], float32 in (-1, 1)."""
        config, channels, block = self.config, self.config.channels, 0
        x = Conv(channels, (7,), dtype=self.dtype, name="conv_in")(log_mel)
        for i, (rate, kernel) in enumerate(zip(config.rates, config.kernels, strict=True)):
            channels //= 2
            edge = kernel - 1 - (kernel - rate) // 2  # crops (k − u) // 2 samples at each end
            up = nn.ConvTranspose(channels, (kernel,), (rate,), ((edge, edge),), dtype=self.dtype, name=f"up_{i}")
            x = up(nn.leaky_relu(x, 0.1))
            total = 0.0
            for size, dilations in zip(config.res_kernels, config.res_dilations, strict=True):
                total = total + DilatedResBlock(size, dilations, self.dtype, name=f"res_{block}")(x)
                block += 1
            x = total / len(config.res_kernels)
        x = Conv(1, (7,), dtype=self.dtype, name="conv_out")(nn.leaky_relu(x, 0.01))
        return nn.tanh(x[..., 0].astype(jnp.float32))
