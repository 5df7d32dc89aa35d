"""Cosines in fixed point: exact integers, the same for any order of summation, block of a matrix and device.

A sum of float32 products depends in its last bits on the order of summation, so that equal embeddings may have unequal
cosines, and a rank may depend on how rows are split over devices. Here every row, divided by its norm, is rounded to
integers, which are written with three digits of base 256:

    a_k = round( 127 · 2¹⁶ · x_k / ‖x‖ ) = 2¹⁶ u_0 + 2⁸ u_1 + u_2,       -128 ≤ u_p ≤ 127

and the similarity of two rows with digits u and v is the integer

    S = Σ_{k ≤ 2} 2^{8 (2 - k)} c_k + ⌊ c_3 / 2⁸ + ½ ⌋,     c_k = Σ_{p + q = k} u_p · v_q

which fits in 32 bits and is 127² · 2¹⁶ times the cosine up to an error of the cosine of √D / (127 · 2¹⁶) at most, about
10⁻⁷ mostly. Digits are exact in bfloat16 and in TF32, and a float32 sum of 1024 products is exact, as no partial sum
exceeds 2²⁴; such sums are added as int32. So the matrix products, eight times as many as of float32 rows, can run at
the lowest precision of an accelerator.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.types import Array

DIGITS = 3
SCALE = 127 * 2**16
_TERMS = 1024  # products of digits whose sum is exact in float32: 2¹⁴ · 1024 = 2²⁴
_ROWS = 8192  # that are converted at a time


def digits(x: np.ndarray, name: str = "embeddings") -> np.ndarray:
    """The digits of the rows of x [n, D], divided by their norms, int8 [n, 3, D].

    Raises:
      ConfigError: a row is zero or not finite; `name` is that of the array in the message.
    """
    out = np.empty((len(x), DIGITS, x.shape[1]), np.int8)
    for start in range(0, len(x), _ROWS):
        rows = np.asarray(x[start : start + _ROWS], np.float64)
        largest = np.abs(rows).max(1, initial=0.0)
        bad = ~(np.isfinite(largest) & (largest > 0))
        if bad.any():
            raise ConfigError(f"{name}: row {start + int(bad.argmax())} is zero or not finite: it has no direction")
        rows = rows / largest[:, None]  # so that no square overflows
        value = np.rint(rows * (SCALE / np.linalg.norm(rows, axis=1, keepdims=True))).astype(np.int32)
        for p in reversed(range(DIGITS)):
            digit = ((value + 128) & 255) - 128 if p else value
            out[start : start + _ROWS, p] = digit
            value = (value - digit) >> 8
    return out


def _factors(u: Any, v: Any, k: int) -> tuple[Any, Any]:
    """The digits that c_k multiplies, [n, digits, D] each."""
    low, high = max(0, k - 2), min(k, 2)
    return u[:, low : high + 1], v[:, k - high : k - low + 1][:, ::-1]


def similarity(u: Array, v: Array) -> Array:
    """S of all pairs of rows with digits u [n, 3, D] and v [m, 3, D], int32 [n, m]."""

    def c(k: int) -> Array:
        x, y = (z.reshape(len(z), -1).astype(jnp.float32) for z in _factors(u, v, k))
        parts = ((x[:, i : i + _TERMS], y[:, i : i + _TERMS]) for i in range(0, x.shape[1], _TERMS))
        products = (jnp.einsum("id,jd->ij", *part, precision=jax.lax.Precision.DEFAULT) for part in parts)
        return sum((product.astype(jnp.int32) for product in products), jnp.int32(0))

    return (c(0) * 256 + c(1)) * 256 + c(2) + ((c(3) + 128) >> 8)


def similarity_of_rows(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """S of the rows i of u and of v, both digits [n, 3, D], int32 [n]; equal to the diagonal of `similarity`."""
    out = np.empty(len(u), np.int32)
    for start in range(0, len(u), _ROWS):
        x, y = (z[start : start + _ROWS].astype(np.int64) for z in (u, v))
        c = [np.einsum("npd,npd->n", *_factors(x, y, k)) for k in range(4)]
        out[start : start + _ROWS] = (c[0] * 256 + c[1]) * 256 + c[2] + ((c[3] + 128) >> 8)
    return out
