"""Images: a batched bilinear affine warp of glyphs onto a canvas, then colour.

A pixel p of the canvas samples the glyph at  R(-θ)(p - centre - shift) / scale + glyph centre,  in pixels; outside the
glyph it is black.
"""

import functools

import numpy as np

from codi_jax.digit_world.factors import PALETTE
from codi_jax.digit_world.glyphs import SIDE, glyphs

CANVAS = 32
_STRIDE = SIDE + 3  # padded by one pixel before and two after: the clipped coordinate SIDE + 1 has a neighbour
_CHUNK = 64  # glyphs warped at a time, so that the arrays fit into the CPU cache


@functools.lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """All glyphs, padded with black, in [0, 1], flat."""
    padded = np.pad(glyphs().reshape(-1, SIDE, SIDE), ((0, 0), (1, 2), (1, 2)))
    return (padded.astype(np.float32) / 255).ravel()


def warp(
    glyph: np.ndarray, shift: np.ndarray, scale: np.ndarray, angle: np.ndarray, canvas: int = CANVAS
) -> np.ndarray:
    """Warps glyphs onto the canvas.

    Args:
      glyph: [N], rows of `glyphs().reshape(5000, 28, 28)`.
      shift: [N, 2], pixels right and down.
      scale: [N], relative size.
      angle: [N], radians, clockwise on the screen.
      canvas: S, side of the canvas in pixels.

    Returns:
      Brightness [N, S, S] float32 in [0, 1].
    """
    out = np.empty((len(glyph), canvas * canvas), np.float32)
    for start in range(0, len(glyph), _CHUNK):
        rows = slice(start, start + _CHUNK)
        out[rows] = _warp(glyph[rows], shift[rows], scale[rows], angle[rows], canvas)
    return out.reshape(-1, canvas, canvas)


def _warp(glyph: np.ndarray, shift: np.ndarray, scale: np.ndarray, angle: np.ndarray, canvas: int) -> np.ndarray:
    table, pixel = _table(), np.arange(canvas, dtype=np.float32)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    x0, y0 = (canvas - 1) / 2 + shift.T
    middle = (SIDE - 1) / 2 + 1  # centre of the padded glyph

    def source(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Integer and fractional part of a·x + b·y + c for every pixel, [n, S²] each."""
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
    """Colours brightness [N, ...] in [0, 1] with palette indices [N]: float32 [N, ..., 3] in [-1, 1], black is -1."""
    rgb = 2 * PALETTE[colour].reshape(len(colour), *(1,) * (brightness.ndim - 1), 3)
    return brightness[..., None] * rgb - 1
