"""Glyphs drawn onto a canvas: a bilinear affine warp of many glyphs at once, then colour.

A pixel p of the canvas shows the glyph at  R(-θ)(p - centre - shift) / scale + glyph centre,  in pixels; what lies
outside the glyph is black.
"""

import functools

import numpy as np

from codi_jax.data.digit_world.factors import PALETTE
from codi_jax.data.digit_world.glyphs import SIDE, glyphs

CANVAS = 32
_STRIDE = SIDE + 3  # one black pixel before and two after: the clipped coordinate SIDE + 1 still has a neighbour
_CHUNK = 64  # glyphs warped at a time, so that the working arrays stay in the cache


@functools.lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """Every glyph inside its black border, in [0, 1], flat."""
    padded = np.pad(glyphs().reshape(-1, SIDE, SIDE), ((0, 0), (1, 2), (1, 2)))
    return (padded.astype(np.float32) / 255).ravel()


def warp(glyph: np.ndarray, shift: np.ndarray, scale: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Draws glyphs.

    Args:
      glyph: [N] row of `glyphs().reshape(5000, 28, 28)`.
      shift: [N, 2] pixels right and down.
      scale: [N] size, 1 for the glyph's own.
      angle: [N] radians, clockwise on the screen.

    Returns:
      Brightness [N, 32, 32] float32 in [0, 1].
    """
    out = np.empty((len(glyph), CANVAS * CANVAS), np.float32)
    for start in range(0, len(glyph), _CHUNK):
        rows = slice(start, start + _CHUNK)
        out[rows] = _warp(glyph[rows], shift[rows], scale[rows], angle[rows])
    return out.reshape(-1, CANVAS, CANVAS)


def _warp(glyph: np.ndarray, shift: np.ndarray, scale: np.ndarray, angle: np.ndarray) -> np.ndarray:
    table, pixel = _table(), np.arange(CANVAS, dtype=np.float32)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    x0, y0 = (CANVAS - 1) / 2 + shift.T
    middle = (SIDE - 1) / 2 + 1  # of the glyph inside its border

    def source(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whole and fractional part of a·x + b·y + c for every pixel, [n, 1024] each."""
        across = a[:, None] * pixel
        down = b[:, None] * pixel + (middle - a * x0 - b * y0)[:, None]
        at = (down[:, :, None] + across[:, None, :]).astype(np.float32).reshape(len(glyph), -1)
        np.clip(at, 0, SIDE + 1, out=at)
        whole = at.astype(np.int32)
        return whole, at - whole

    column, right = source(cos, sin)
    row, below = source(-sin, cos)
    at = row * _STRIDE + column + (glyph.astype(np.int32) * _STRIDE**2)[:, None]
    top, bottom = table[at], table[at + _STRIDE]
    top += right * (table[at + 1] - top)
    bottom += right * (table[at + (_STRIDE + 1)] - bottom)
    return top + below * (bottom - top)


def paint(brightness: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Colours brightness [N, ...] in [0, 1] by colours [N]: float32 [N, ..., 3] in [-1, 1] on black (-1)."""
    rgb = 2 * PALETTE[colour].reshape(len(colour), *(1,) * (brightness.ndim - 1), 3)
    return brightness[..., None] * rgb - 1
