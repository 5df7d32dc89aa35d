"""Clips: a picture that moves, wrapping round the canvas.

    frame k  =  picture moved by (k - 4) · SPEED pixels

The picture is in its place in the fifth frame.
"""

import numpy as np

FRAMES = 8
SPEED = 1  # pixels a frame
RATE = 8  # frames a second: a clip lasts one second
_STEP = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # rows, columns


def move(pictures: np.ndarray, motion: np.ndarray, motions: tuple[str, ...]) -> np.ndarray:
    """Moves pictures [N, H, W, ...] in the directions motions[motion], motion [N]: clips [N, 8, H, W, ...]."""
    out = np.empty((len(pictures), FRAMES, *pictures.shape[1:]), pictures.dtype)
    for index, name in enumerate(motions):
        rows = np.flatnonzero(motion == index)
        for k in range(FRAMES):
            shift = tuple((k - FRAMES // 2) * SPEED * step for step in _STEP[name])
            out[rows, k] = np.roll(pictures[rows], shift, axis=(1, 2))
    return out
