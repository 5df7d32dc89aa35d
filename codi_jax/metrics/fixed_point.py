"""Cosines in fixed point: exact integers, the same for any order of summation, block of a matrix and device.

A sum of float32 products depends in its last bits on the order of summation, so that equal embeddings may have unequal
cosines, and a rank may depend on how rows are split over devices. Here every row, divided by its norm, is rounded to
integers, which are written with three digits of base 256:

    a_k = round( 127 · 2¹⁶ · x_k / ‖x‖ ) = 2¹⁶ u_0 + 2⁸ u_1 + u_2,       -128 ≤ u_p ≤ 127

and the similarity of two rows with digits u and v is the integer

    S = Σ_{p + q ≤ 2} 2^{8 (2 - p - q)} u_p · v_q   ≈   127² · 2¹⁶ · cosine,       |S| < 2³¹

which differs from the cosine by about 10⁻⁶. Digits are exact in bfloat16 and in TF32, and a float32 sum of 1024
products is exact, as no partial sum exceeds 2²⁴; such sums are added as int32. So the matrix products, six times as
many as of float32 rows, can run at the lowest precision of an accelerator.
"""

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


def similarity(u: Array, v: Array) -> Array:
    """S of all pairs of rows with digits u [n, 3, D] and v [m, 3, D], int32 [n, m]."""
    total = jnp.zeros((), jnp.int32)
    for order in range(DIGITS):  # p + q
        x = u[:, : order + 1].reshape(len(u), -1).astype(jnp.float32)
        y = v[:, order::-1].reshape(len(v), -1).astype(jnp.float32)
        total = total * 256
        for start in range(0, x.shape[1], _TERMS):
            part = x[:, start : start + _TERMS], y[:, start : start + _TERMS]
            total += jnp.einsum("id,jd->ij", *part, precision=jax.lax.Precision.DEFAULT).astype(jnp.int32)
    return total


def similarity_of_rows(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """S of the rows i of u and of v, both digits [n, 3, D], int32 [n]; equal to the diagonal of `similarity`."""
    total = np.zeros(len(u), np.int64)
    for start in range(0, len(u), _ROWS):
        x, y = (z[start : start + _ROWS].astype(np.int64) for z in (u, v))
        products = [np.einsum("npd,npd->n", x[:, : k + 1], y[:, k::-1]) for k in range(DIGITS)]
        total[start : start + _ROWS] = (products[0] * 256 + products[1]) * 256 + products[2]
    return total.astype(np.int32)
