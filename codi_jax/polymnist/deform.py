"""Elastic deformation of glyphs: few glyphs become many hands.

A pixel p of the deformed picture is the bilinear sample of the picture at p + d(p). d is drawn on a grid of GRID × GRID
nodes over the picture, each component uniform in [-σ, σ], and is interpolated linearly between them.
"""

import functools

import numpy as np

from codi_jax.digit_world.draws import uniform

GRID = 4


@functools.lru_cache
def _interpolation(side: int) -> np.ndarray:
    """Weights of the nodes for each pixel along one axis, [S, GRID]."""
    at = np.linspace(0, GRID - 1, side)[:, None]
    return np.clip(1 - np.abs(at - np.arange(GRID)), 0, 1).astype(np.float32)


def deform(picture: np.ndarray, seed: str, index: np.ndarray, largest: float) -> np.ndarray:
    """Deforms pictures.

    Args:
      picture: [N, S, S].
      seed, index: of the draws, [N].
      largest: σ, in sides of the picture.

    Returns:
      [N, S, S]; outside of it a picture is 0.
    """
    n, side = picture.shape[:2]
    names = [f"deform {k}" for k in range(2 * GRID * GRID)]
    nodes = np.stack(list(uniform(seed, names, index).values()), 1).reshape(n, 2, GRID, GRID).astype(np.float32)
    weights = _interpolation(side)
    moved = (2 * nodes - 1) * largest * side
    right, down = np.moveaxis(weights @ moved @ weights.T, 1, 0)  # [N, S, S] each
    pixel = np.arange(side, dtype=np.float32)
    x, y = np.clip(pixel + right + 1, 0, side + 1), np.clip(pixel[:, None] + down + 1, 0, side + 1)  # in the padded one
    left, top = x.astype(np.int64), y.astype(np.int64)
    padded = np.pad(picture, ((0, 0), (1, 2), (1, 2)))
    row = np.arange(n)[:, None, None]
    x, y = x - left, y - top
    upper = (1 - x) * padded[row, top, left] + x * padded[row, top, left + 1]
    lower = (1 - x) * padded[row, top + 1, left] + x * padded[row, top + 1, left + 1]
    return (1 - y) * upper + y * lower
