"""A decoded video frame as a player shows it: turned, mirrored, and with square pixels.

Phones and cameras write frames as their sensors give them, and beside them a matrix that takes pixel (x, y) to where it
is shown: (a x + c y, b x + d y), y downwards. Anamorphic video (DV, DVD, broadcasts) has pixels that are not square.
"""

from typing import Any

import numpy as np
from PIL import Image

# From (a, b, c, d).
_TURNS: dict[tuple[int, ...], Image.Transpose] = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
_MAX_ASPECT = 8.0  # of a pixel; larger ones are errors of the file


def shown(frame: Any, aspect: float | None) -> Image.Image:
    """A frame of PyAV as an RGB image. Neither side becomes longer; other angles than right ones are ignored.

    Args:
      frame: of a video.
      aspect: width of a pixel over its height; None if the file does not say.
    """
    image = frame.to_image(threads=1)
    if aspect and aspect != 1 and 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        width, height = image.size
        size = (width, round(height / aspect)) if aspect > 1 else (round(width * aspect), height)
        image = image.resize((max(size[0], 1), max(size[1], 1)), Image.Resampling.BICUBIC)
    turn = _TURNS.get(_matrix(frame))
    return image if turn is None else image.transpose(turn)


def _matrix(frame: Any) -> tuple[int, ...]:
    from av.sidedata.sidedata import Type

    side = frame.side_data.get(Type.DISPLAYMATRIX)
    if side is None:
        return (1, 0, 0, 1)
    entries = np.frombuffer(bytes(side), "<i4", 9)  # fixed-point numbers: 16 bits after the point
    return tuple(int(x) for x in np.round(entries[[0, 1, 3, 4]] / 65536))
