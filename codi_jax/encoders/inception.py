"""Inception-v3 (Szegedy et al., arXiv 1512.00567) as the weights of FID need it: images to pool features and logits.

FID, KID and the Inception score are defined by one set of weights, TensorFlow's `inception-2015-12-05`, which PyTorch
programs read as `pt_inception-2015-12-05-6726825d.pth`. Its graph differs from other Inception-v3s:

    Mixed_5*, 6b-6e, 7b    average pools 3×3 divide by the number of pixels inside the image, without the padding
    Mixed_7c               the pool is a maximum
    fc                     1008 classes; the Inception score uses its logits without the bias

    convolution   relu(norm(W * x)),  norm(y) = (y - mean) / √(var + 1e-3) · scale + bias,  statistics fixed
    pool          mean of the last 8×8 map, [B, 2048]          logits = pool · W_fc

In float32 products have the highest precision on every device, since accelerators would round their factors to 10 or 8
bits by default; in bfloat16, which is faster, features and FID are not those of the field.

`preprocess` makes the input [B, 299, 299, 3] from uint8 images of any size. A resize changes FID by more than many
models differ, so the convention is part of a number. Both interpolate linearly between two pixels on each axis, without
antialiasing, with n the input's side and u(j) the position that output j reads:

    "tensorflow"     u = j n / 299                               x = (v - 128) / 128
    "pytorch-fid"    u = max((j + ½) n / 299 - ½, 0)             x = 2 v / 255 - 1

The first, TensorFlow 1's `ResizeBilinear` with its shift of half a pixel, is that of the FID paper's program, ADM's
evaluator, StyleGAN's metrics and torch-fidelity, so most published numbers have it, and it is the default. The second
is pytorch-fid's.
"""

from typing import Literal, NamedTuple, TypeVar, get_args

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jax.typing import DTypeLike

from codi_jax.config import ConfigError, config_class
from codi_jax.encoders.clap import FixedBatchNorm
from codi_jax.nn.layers import Conv
from codi_jax.nn.parameters import ReadsParameters
from codi_jax.types import Array

SIDE = 299
Convention = Literal["tensorflow", "pytorch-fid"]
ArrayT = TypeVar("ArrayT", Array, np.ndarray)


@config_class()
class InceptionConfig:
    """Sizes of an `InceptionV3`; the defaults are those of the published weights.

    Attributes:
      classes: of the logits.
      divisor: all widths are divided by it: 1, or 2, 4, 8, 16 for small networks without published weights.

    Raises:
      ConfigError: a divisor that does not divide all widths.
    """

    classes: int = 1008
    divisor: int = 1

    def __post_init__(self):
        if self.divisor not in (1, 2, 4, 8, 16) or self.classes < 1:
            raise ConfigError(
                f"expected divisor 1, 2, 4, 8 or 16 and at least one class, got {self.divisor} and {self.classes}"
            )


class InceptionOutput(NamedTuple):
    """The output of an `InceptionV3`, float32.

    Attributes:
      pool: features of FID and KID, [B, 2048 / divisor].
      logits: of the classes, [B, classes].
    """

    pool: Array
    logits: Array


class _Layers(nn.Module):
    """Base of the modules below: config, compute type and convolution."""

    config: InceptionConfig
    dtype: DTypeLike = jnp.float32

    def conv(
        self, x: Array, name: str, width: int, size: tuple[int, int] = (1, 1), stride: int = 1, pad: bool = True
    ) -> Array:
        """A convolution with norm and ReLU; `pad` keeps the sides."""
        layer = _ConvNorm(self.config, self.dtype, width, size, stride, pad and stride == 1, name=name)
        return layer(x)


class _ConvNorm(_Layers):
    """relu(norm(conv(x))), the convolution without bias."""

    width: int = 0
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    pad: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width, padding = self.width // self.config.divisor, "SAME" if self.pad else "VALID"
        precision = Precision.HIGHEST if jnp.dtype(self.dtype) == jnp.float32 else None
        options = {"use_bias": False, "dtype": self.dtype, "precision": precision, "name": "conv"}
        conv = Conv(width, self.size, self.stride, padding=padding, **options)
        return nn.relu(FixedBatchNorm(1e-3, name="bn")(conv(x))).astype(self.dtype)


def _average(x: Array) -> Array:
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _maximum(x: Array, stride: int = 2) -> Array:
    return nn.max_pool(x, (3, 3), (stride, stride), "VALID" if stride == 2 else "SAME")


class _Mixed35(_Layers):
    """Mixed_5b to 5d, on 35×35: 1×1, 5×5, two 3×3, and a pool with `pool` channels."""

    pool: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        five = self.conv(self.conv(x, "branch5x5_1", 48), "branch5x5_2", 64, (5, 5))
        double = self.conv(self.conv(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, (3, 3))
        double = self.conv(double, "branch3x3dbl_3", 96, (3, 3))
        pool = self.conv(_average(x), "branch_pool", self.pool)
        return jnp.concatenate([self.conv(x, "branch1x1", 64), five, double, pool], -1)


class _Reduce35(_Layers):
    """Mixed_6a, 35×35 to 17×17."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        double = self.conv(self.conv(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, (3, 3))
        double = self.conv(double, "branch3x3dbl_3", 96, (3, 3), 2)
        return jnp.concatenate([self.conv(x, "branch3x3", 384, (3, 3), 2), double, _maximum(x)], -1)


class _Mixed17(_Layers):
    """Mixed_6b to 6e, on 17×17: 7×7 as products of 1×7 and 7×1, with `inner` channels inside."""

    inner: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        row, column, inner = (1, 7), (7, 1), self.inner
        seven = self.conv(self.conv(x, "branch7x7_1", inner), "branch7x7_2", inner, row)
        seven = self.conv(seven, "branch7x7_3", 192, column)
        double = self.conv(x, "branch7x7dbl_1", inner)
        for n, size in ((2, column), (3, row), (4, column)):
            double = self.conv(double, f"branch7x7dbl_{n}", inner, size)
        double = self.conv(double, "branch7x7dbl_5", 192, row)
        pool = self.conv(_average(x), "branch_pool", 192)
        return jnp.concatenate([self.conv(x, "branch1x1", 192), seven, double, pool], -1)


class _Reduce17(_Layers):
    """Mixed_7a, 17×17 to 8×8."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        three = self.conv(self.conv(x, "branch3x3_1", 192), "branch3x3_2", 320, (3, 3), 2)
        seven = self.conv(self.conv(x, "branch7x7x3_1", 192), "branch7x7x3_2", 192, (1, 7))
        seven = self.conv(self.conv(seven, "branch7x7x3_3", 192, (7, 1)), "branch7x7x3_4", 192, (3, 3), 2)
        return jnp.concatenate([three, seven, _maximum(x)], -1)


class _Mixed8(_Layers):
    """Mixed_7b and 7c, on 8×8: 3×3 as 1×3 beside 3×1; the pool is an average, or a maximum."""

    maximum: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        three = self.conv(x, "branch3x3_1", 384)
        double = self.conv(self.conv(x, "branch3x3dbl_1", 448), "branch3x3dbl_2", 384, (3, 3))
        pooled = _maximum(x, 1) if self.maximum else _average(x)
        parts = [
            self.conv(x, "branch1x1", 320),
            self.conv(three, "branch3x3_2a", 384, (1, 3)),
            self.conv(three, "branch3x3_2b", 384, (3, 1)),
            self.conv(double, "branch3x3dbl_3a", 384, (1, 3)),
            self.conv(double, "branch3x3dbl_3b", 384, (3, 1)),
            self.conv(pooled, "branch_pool", 192),
        ]
        return jnp.concatenate(parts, -1)


class _Logits(ReadsParameters, nn.Module):
    """A dense layer whose bias is added on request."""

    classes: int

    @nn.compact
    def __call__(self, x: Array, bias: bool) -> Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.classes))
        offset = self.param("bias", nn.initializers.zeros, (self.classes,))
        logits = jnp.matmul(x, kernel, precision="highest")
        return logits + offset if bias else logits


class InceptionV3(_Layers):
    """The network; see the module's docstring. Parameters have the names of the published weights."""

    @nn.compact
    def __call__(self, x: Array, bias: bool = False) -> InceptionOutput:
        """Features of images.

        Args:
          x: float [B, H, W, 3] in [-1, 1], from `preprocess`; sides of at least 75, 299 for the field's numbers.
          bias: add the bias of the last layer to the logits, for a classifier; the Inception score leaves it out.

        Raises:
          ValueError: another shape.
        """
        if x.ndim != 4 or x.shape[-1] != 3 or min(x.shape[1:3]) < 75:
            raise ValueError(f"expected images [B, H, W, 3] with sides of at least 75, got shape {x.shape}")
        config, dtype = self.config, self.dtype
        x = self.conv(x.astype(dtype), "Conv2d_1a_3x3", 32, (3, 3), 2)
        x = self.conv(x, "Conv2d_2a_3x3", 32, (3, 3), pad=False)
        x = _maximum(self.conv(x, "Conv2d_2b_3x3", 64, (3, 3)))
        x = self.conv(x, "Conv2d_3b_1x1", 80)
        x = _maximum(self.conv(x, "Conv2d_4a_3x3", 192, (3, 3), pad=False))
        for letter, pool in zip("bcd", (32, 64, 64), strict=True):
            x = _Mixed35(config, dtype, pool, name=f"Mixed_5{letter}")(x)
        x = _Reduce35(config, dtype, name="Mixed_6a")(x)
        for letter, inner in zip("bcde", (128, 160, 160, 192), strict=True):
            x = _Mixed17(config, dtype, inner, name=f"Mixed_6{letter}")(x)
        x = _Reduce17(config, dtype, name="Mixed_7a")(x)
        x = _Mixed8(config, dtype, name="Mixed_7b")(x)
        x = _Mixed8(config, dtype, maximum=True, name="Mixed_7c")(x)
        pool = x.astype(jnp.float32).mean((1, 2))
        return InceptionOutput(pool, _Logits(config.classes, name="fc")(pool, bias))


def interpolation_matrix(length: int, convention: Convention = "tensorflow") -> np.ndarray:
    """The matrix of the resize of one axis, float32 [299, length]; every row has at most two entries."""
    scale = np.float32(length / SIDE)  # positions are rounded as theirs are, in float32
    at = np.arange(SIDE, dtype=np.float32)
    half = np.float32(0.5)
    at = at * scale if convention == "tensorflow" else np.maximum((at + half) * scale - half, 0)
    low = np.minimum(at.astype(np.int64), length - 1)
    share = at - low.astype(np.float32)
    matrix = np.zeros((SIDE, length), np.float32)
    np.add.at(matrix, (np.arange(SIDE), low), 1 - share)
    np.add.at(matrix, (np.arange(SIDE), np.minimum(low + 1, length - 1)), share)
    return matrix


def preprocess(images: Array | np.ndarray, convention: Convention = "tensorflow") -> Array:
    """The network's input from images of any size.

    Args:
      images: uint8 [B, H, W, 3].
      convention: of resize and units, see the module's docstring.

    Returns:
      float32 [B, 299, 299, 3].

    Raises:
      ConfigError: images of another type or shape, or an unknown convention.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != jnp.uint8 or not images.size:
        raise ConfigError(f"expected uint8 images [B, H, W, 3], got {images.dtype} {tuple(images.shape)}")
    if convention not in get_args(Convention):
        raise ConfigError(f"convention: expected one of {', '.join(get_args(Convention))}, got {convention!r}")
    x = jnp.asarray(images).astype(jnp.float32)
    if x.shape[1:3] != (SIDE, SIDE):
        rows, columns = (interpolation_matrix(length, convention) for length in x.shape[1:3])
        x = jnp.einsum("iy,byxc->bixc", rows, x, precision="highest")
        x = jnp.einsum("jx,bixc->bijc", columns, x, precision="highest")
    return scale_pixels(x, convention)


def scale_pixels(x: ArrayT, convention: Convention = "tensorflow") -> ArrayT:
    """The network's units of levels 0 to 255."""
    return (x - 128) / 128 if convention == "tensorflow" else 2 * (x / 255) - 1
