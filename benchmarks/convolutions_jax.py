"""Implementations of a 3×3 convolution with padding 1 in jax, and the sizes at which our U-Nets have one.

y[b, h, w] = Σ_ij x[b, s·h + i - 1, s·w + j - 1] K[i, j]                     (1)

xla        `lax.conv_general_dilated`
patches    the 9 neighbours of every position side by side, one product with a [9·I, O] matrix
shifted    the sum over i, j of (1): 9 products with [I, O] matrices
winograd2, winograd4
           F(m×m, 3×3), m = 2 or 4, of Lavin and Gray (arXiv 1509.09308): (m + 2)² products for m² results instead
           of 9 m²; stride 1 only. Numbers in float32 are less exact, which the benchmark prints
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.convolutions_cases import Size, make_arrays
from benchmarks.unet_cases import Options
from benchmarks.unet_jax import model
from codi_jax.codi import CoDi
from codi_jax.nn.conv import Conv3x3, patches
from codi_jax.types import Array, Tokens

Implementation = Callable[[Array, Array, int], Array]  # x [B, H, W, I], kernel [3, 3, I, O], stride -> [B, H', W', O]


def xla(x: Array, kernel: Array, stride: int) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def by_patches(x: Array, kernel: Array, stride: int) -> Array:
    return patches(x, stride) @ kernel.reshape(-1, kernel.shape[-1])


def by_rows(x: Array, kernel: Array, stride: int) -> Array:
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    wide = jnp.concatenate([x[:, :, j : j + width : stride] for j in range(3)], axis=-1)
    terms = [wide[:, i : i + height : stride] @ kernel[i].reshape(-1, kernel.shape[-1]) for i in range(3)]
    return sum(terms[1:], terms[0])


def shifted(x: Array, kernel: Array, stride: int) -> Array:
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    terms = [x[:, i : i + height : stride, j : j + width : stride] @ kernel[i, j] for i in range(3) for j in range(3)]
    return sum(terms[1:], terms[0])


# B^T, G and A^T of Lavin and Gray.
_TRANSFORMS = {
    2: (
        np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
        np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
        np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
    ),
    4: (
        np.array(
            [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0],
             [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
        ),
        np.array(
            [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
             [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
        ),
        np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
    ),
}  # fmt: skip


def _combine(matrix: np.ndarray, arrays: list[Array]) -> list[Array]:
    """The linear combinations of the arrays with the rows of a matrix, without terms of coefficient 0."""
    rows = []
    for row in matrix:
        terms = [float(c) * a if c != 1 else a for c, a in zip(row, arrays, strict=True) if c]
        rows.append(sum(terms[1:], terms[0]))
    return rows


def winograd(m: int) -> Implementation:
    """F(m×m, 3×3), for a stride of 1."""
    inner, weights, outer = _TRANSFORMS[m]
    n = m + 2

    def convolve(x: Array, kernel: Array, stride: int) -> Array:
        assert stride == 1
        batch, height, width, channels = x.shape
        rows, columns = -(-height // m), -(-width // m)
        pad = ((0, 0), (1, rows * m + 1 - height), (1, columns * m + 1 - width), (0, 0))
        x = jnp.pad(x, pad)
        by_row = [x[:, i : i + (rows - 1) * m + 1 : m] for i in range(n)]
        tiles = [
            _combine(inner, [r[:, :, j : j + (columns - 1) * m + 1 : m] for j in range(n)])
            for r in _combine(inner, by_row)
        ]
        by_row = _combine(weights, [kernel[i] for i in range(3)])
        kernels = [_combine(weights, [r[j] for j in range(3)]) for r in by_row]
        products = [
            [t.reshape(-1, channels) @ k for t, k in zip(*pair, strict=True)]
            for pair in zip(tiles, kernels, strict=True)
        ]
        half = [_combine(outer, list(column)) for column in zip(*products, strict=True)]  # by column, then row
        result = jnp.stack([jnp.stack(_combine(outer, list(row)), 1) for row in zip(*half, strict=True)], 1)
        result = result.reshape(batch, rows, columns, m, m, -1).transpose(0, 1, 3, 2, 4, 5)
        return result.reshape(batch, rows * m, columns * m, -1)[:, :height, :width]

    return convolve


IMPLEMENTATIONS: dict[str, Implementation] = {
    "xla": xla,
    "patches": by_patches,
    "rows": by_rows,
    "shifted": shifted,
    "winograd2": winograd(2),
    "winograd4": winograd(4),
}


def sizes(name: str, batch: int, pixels: int) -> list[Size]:
    """The 3×3 convolutions of a forward pass: of "sd", the U-Net of Stable Diffusion 1.x, or of the spatial U-Nets of a
    preset."""
    codi = model(Options(pixels=pixels)) if name == "sd" else CoDi.from_preset(name)
    found: Counter[Size] = Counter()

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, Conv3x3) and context.method_name == "__call__":
            *before, height, width, channels = args[0].shape
            found[Size(int(np.prod(before)), height, width, channels, context.module.width, context.module.stride)] += 1
        return call(*args, **kwargs)

    for modality in codi.modalities.values():
        if modality.denoiser_config.kind != "spatial":
            continue
        context = Tokens.of(jnp.zeros((batch, 1, modality.denoiser_config.context_width)))
        z, t = jnp.zeros((batch, *modality.latent_shape)), jnp.zeros(batch)
        with nn.intercept_methods(record):
            jax.eval_shape(lambda z, t, c, m=modality: m.denoiser.init(jax.random.key(0), z, t, c), z, t, context)
    return [dataclasses.replace(size, count=count) for size, count in found.items()]


class Convolutions:
    """The implementations, compiled with the options of the compiler."""

    def __init__(self, options: dict[str, Any] | None = None):
        self._options, self._compiled = options, {}

    def sizes(self, name: str, batch: int, pixels: int) -> list[Size]:
        """See `sizes`."""
        return sizes(name, batch, pixels)

    def run(self, name: str, size: Size, backward: bool) -> Any:
        """Runs an implementation: y; or, backward, the gradients of x and of the kernel for a gradient of y."""
        key = (name, size, backward)
        if key not in self._compiled:
            if len(self._compiled) > 2 * len(IMPLEMENTATIONS):  # those of another size
                self._compiled.clear()
            x, kernel, gradient = map(jnp.asarray, make_arrays(size))

            def forward(x: Array, kernel: Array) -> Array:
                return IMPLEMENTATIONS[name](x, kernel, size.stride)

            def back(x: Array, kernel: Array, gradient: Array) -> Any:
                return jax.vjp(forward, x, kernel)[1](gradient)

            arguments = (x, kernel, gradient) if backward else (x, kernel)
            program = jax.jit(back if backward else forward).lower(*arguments)
            self._compiled[key] = (program.compile(compiler_options=self._options), arguments)
        program, arguments = self._compiled[key]
        return jax.block_until_ready(program(*arguments))

    def values(self, name: str, size: Size, backward: bool) -> list[np.ndarray]:
        """The results of `run`."""
        return [np.asarray(value) for value in jax.tree.leaves(self.run(name, size, backward))]

    def product(self, rows: int, inner: int, columns: int) -> Any:
        """A matrix product of these sizes."""
        key = (rows, inner, columns)
        if key not in self._compiled:
            a, b = jnp.full((rows, inner), 0.5), jnp.full((inner, columns), 0.5)
            self._compiled[key] = (jax.jit(jnp.matmul).lower(a, b).compile(compiler_options=self._options), (a, b))
        program, arguments = self._compiled[key]
        return jax.block_until_ready(program(*arguments))
