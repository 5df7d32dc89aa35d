"""Videos: an image that moves, wrapping around the canvas, and bounces once.

    frame k  =  the image shifted by (k - 4) · SPEED pixels along its motion and by LEAP[|k - e|] pixels across it

Frame 4 is the image without the motion's shift. The bounce has its top in frame e: it goes up if the motion is left or
right, and to the right if the motion is up or down.
"""

import numpy as np

FRAMES = 8
SPEED = 1  # pixels per frame
RATE = 8  # frames per second: a video lasts one second
LEAP = (5, 2)  # pixels across the motion at the top of the bounce, and in the frames before and after it
STEPS = {  # motion -> (rows, columns) per frame, direction of the bounce
    "left": ((0, -1), (-1, 0)),
    "right": ((0, 1), (-1, 0)),
    "up": ((-1, 0), (0, 1)),
    "down": ((1, 0), (0, 1)),
}


def offsets(motion: str, event: int | None) -> np.ndarray:
    """The shift of the image in each frame, int [8, 2] in rows and columns; no bounce if `event` is None."""
    along, across = (np.array(step) for step in STEPS[motion])
    leap = np.zeros(FRAMES, np.int64)
    if event is not None:
        for distance, height in enumerate(LEAP):
            leap[[k for k in range(FRAMES) if abs(k - event) == distance]] = height
    return (np.arange(FRAMES) - FRAMES // 2)[:, None] * SPEED * along + leap[:, None] * across


def move(images: np.ndarray, motion: np.ndarray, event: np.ndarray, motions: tuple[str, ...]) -> np.ndarray:
    """Turns images into videos.

    Args:
      images: [N, H, W, ...].
      motion: [N], indices into `motions`.
      event: [N], the frame at the top of the bounce.
      motions: keys of `STEPS`.

    Returns:
      [N, 8, H, W, ...].
    """
    out = np.empty((len(images), FRAMES, *images.shape[1:]), images.dtype)
    for index, top in {(int(m), int(e)) for m, e in zip(motion, event, strict=True)}:
        rows = np.flatnonzero((motion == index) & (event == top))
        for k, shift in enumerate(offsets(motions[index], top)):
            out[rows, k] = np.roll(images[rows], tuple(shift), axis=(1, 2))
    return out
