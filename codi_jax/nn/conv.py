"""Convolutions with padding: 3×3 for maps, as a convolution or as a matrix product, and of width 3 for sequences.

Every output position reads the 9 positions around it; a product of [.., 9·I] patches with a [9·I, O] matrix is the same
sum. On CPU it is the faster of the two for small maps: on a 2×2 map of 128 channels XLA's convolution took 20 times as
long, with 512 channels 100 times. At the sizes of Stable Diffusion's U-Net it took, with its gradient, 1.5 to 2.5 times
as long on 4×4 and 8×8 maps, 1.1 to 1.5 times on 16×16 maps, and .97 times on 32×32 maps (`benchmarks.convolutions`). A
convolution along one axis is the faster of the two at every length.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from codi_jax.nn.parameters import ReadsParameters
from codi_jax.parallel.activations import constrain
from codi_jax.parallel.hardware import hardware
from codi_jax.types import Array


def patches(x: Array, stride: int) -> Array:
    """The 3×3 neighbourhood of every stride-th position, zeros beyond the border: [B, H, W, C] -> [B, H', W', 9·C]."""
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [x[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1)


def by_product(positions: int, channels: int) -> bool:
    """Whether a convolution of maps with this number of positions and input channels is computed as a product."""
    return positions < 9 or (positions <= 256 and channels >= 256 and hardware().platform == "cpu")


class Conv3x3(ReadsParameters, nn.Module):
    """A 3×3 convolution with padding 1 over the last axes [..., H, W, C]; all axes before are batch axes.

    Attributes:
      width: channels of the result.
      stride: 1, or 2 to halve height and width.
      zero: initialise the kernel with zeros.
      dtype: of the computation.
    """

    width: int
    stride: int = 1
    zero: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (3, 3, x.shape[-1], self.width)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.width,)).astype(self.dtype)
        maps = constrain(x, "batch").astype(self.dtype).reshape(-1, *x.shape[-3:])
        if maps.shape[1:3] == (1, 1):
            y = maps @ kernel[1, 1]  # all other taps read zeros
        elif by_product(maps.shape[1] * maps.shape[2], maps.shape[-1]):
            y = patches(maps, self.stride) @ kernel.reshape(-1, self.width)
        else:
            strides, layout = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
            y = lax.conv_general_dilated(maps, kernel, strides, ((1, 1), (1, 1)), dimension_numbers=layout)
        return constrain((y + bias).reshape(*x.shape[:-3], *y.shape[1:]), "batch")


class Conv3(ReadsParameters, nn.Module):
    """A convolution of width 3 with padding 1 along the sequence of [B, L, C].

    Attributes:
      width: channels of the result.
      stride: 1, or 2 to halve the length.
      zero: initialise the kernel with zeros.
      dtype: of the computation.
    """

    width: int
    stride: int = 1
    zero: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (3, x.shape[-1], self.width)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.width,)).astype(self.dtype)
        layout = ("NHC", "HIO", "NHC")
        x = constrain(x, "batch").astype(self.dtype)
        y = lax.conv_general_dilated(x, kernel, (self.stride,), ((1, 1),), dimension_numbers=layout)
        return constrain(y + bias, "batch")
