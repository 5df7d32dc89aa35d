"""Clips: a picture that moves, wrapping round the canvas, and bounces once.

    frame k  =  picture moved by (k - 4) · SPEED pixels along its way and by LEAP[|k - e|] pixels across it

The picture is in its place in the fifth frame, but for the bounce, whose top is frame e: what moves left or right leaps
up, what moves up or down leaps to the right.
"""

import numpy as np

FRAMES = 8
SPEED = 1  # pixels a frame
RATE = 8  # frames a second: a clip lasts one second
LEAP = (5, 2)  # pixels across the way at the top of the bounce, and in the frames beside it
STEPS = {  # motion -> (rows, columns) a frame along the way, and the direction of the bounce
    "left": ((0, -1), (-1, 0)),
    "right": ((0, 1), (-1, 0)),
    "up": ((-1, 0), (0, 1)),
    "down": ((1, 0), (0, 1)),
}


def offsets(motion: str, event: int | None) -> np.ndarray:
    """Where a clip's picture is in each frame: int [8, 2], rows and columns; without a bounce if `event` is None."""
    along, across = (np.array(step) for step in STEPS[motion])
    leap = np.zeros(FRAMES, np.int64)
    for distance, height in enumerate(LEAP if event is not None else ()):
        leap[[k for k in range(FRAMES) if abs(k - event) == distance]] = height
    return (np.arange(FRAMES) - FRAMES // 2)[:, None] * SPEED * along + leap[:, None] * across


def move(pictures: np.ndarray, motion: np.ndarray, event: np.ndarray, motions: tuple[str, ...]) -> np.ndarray:
    """Clips of pictures.

    Args:
      pictures: [N, H, W, ...].
      motion: [N], an index into `motions`.
      event: [N], the frame at the top of the bounce.
      motions: names, of those in `STEPS`.

    Returns:
      [N, 8, H, W, ...].
    """
    out = np.empty((len(pictures), FRAMES, *pictures.shape[1:]), pictures.dtype)
    for index, top in {(int(m), int(e)) for m, e in zip(motion, event, strict=True)}:
        rows = np.flatnonzero((motion == index) & (event == top))
        for k, shift in enumerate(offsets(motions[index], top)):
            out[rows, k] = np.roll(pictures[rows], tuple(shift), axis=(1, 2))
    return out
