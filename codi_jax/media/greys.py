"""Images of one channel with more than 8 bits, as 8 bits: which values are black and white.

    PGM                         0 to `maxval` of its header
    TIFF of fewer than 16 bits  0 to 2^bits - 1
    16 bits (PNG, TIFF, JP2)    0 to 65535; 0 to 4095 if no value is larger, as in a file of 16 bits from a camera of 12
    16 bits with a sign         0 to 32767, or 0 to 4095 in the same way
    32 bits                     0 to the least of 255, 4095 and 65535 that no value exceeds
    floats (TIFF, PFM)          0 to 1
    else                        their own range, from the least value to the largest

The last line is for values outside of the range above it: negative ones, and larger ones. So 16 and 32 bits and floats
are looked at as a whole, while a file that says its range keeps it, however dark it is.
"""

import dataclasses

import numpy as np
from PIL import Image

_ROWS = 256  # converted at a time
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_TWELVE, _SIXTEEN = 4095, 65535


class NotFiniteError(ValueError):
    """NaN or infinite values."""


@dataclasses.dataclass(frozen=True)
class Greys:
    """How the values of an image are read.

    Attributes:
      whites: values that may be white; the first that no value exceeds is. None for floats.
      unsigned: whether negative values of int32 stand for those from 2^31 on.
      inverted: whether 0 is white.
    """

    whites: tuple[int, ...] | None
    unsigned: bool = False
    inverted: bool = False

    def to_8_bits(self, image: Image.Image) -> Image.Image:
        """The image in mode L; in mode LA if one of its values stands for transparency.

        Raises:
          NotFiniteError: it has NaN or infinite values.
        """
        values = np.ascontiguousarray(image)
        if self.unsigned:
            values = values.view(np.uint32)
        low, high = values.min().item(), values.max().item()
        if not np.isfinite([low, high]).all():
            raise NotFiniteError("NaN or infinite values")
        whites = self.whites or ()
        white = next((white for white in whites if low >= 0 and high <= white), None)
        if self.whites is None and low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        scale = 255 / (high - low) if high > low else 0.0
        levels = np.empty(values.shape, np.uint8)
        for row in range(0, len(values), _ROWS):
            block = values[row : row + _ROWS]
            if white is not None:
                block = block >> (white.bit_length() - 8)  # as Pillow takes 8 of the 16 bits of colours
            else:
                block = np.rint((block.astype(np.float64) - low) * scale)
            levels[row : row + _ROWS] = block
        out = Image.fromarray(255 - levels if self.inverted else levels)
        if isinstance(clear := image.info.get("transparency"), int):
            out.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return out


def greys_of(image: Image.Image) -> Greys | None:
    """How an image is read, before anything is done to it that loses its format; None if it has 8 bits."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return None
    tags = getattr(image, "tag_v2", {})
    bits, kind = (_first(tags.get(tag), other) for tag, other in ((_BITS, 0), (_SAMPLE_FORMAT, 1)))
    inverted = tags.get(_PHOTOMETRIC) == 0
    if image.mode == "F":
        return Greys(None, inverted=inverted)
    if image.format == "PPM":  # which Pillow scales to 16 bits
        return Greys((_SIXTEEN,))
    if 8 < bits < 16:
        return Greys((2**bits - 1,), inverted=inverted)
    if image.mode == "I" and bits == 16:  # with a sign
        return Greys((_TWELVE, 2**15 - 1), inverted=inverted)
    if image.mode == "I":
        return Greys((255, _TWELVE, _SIXTEEN), unsigned=bits == 32 and kind == 1, inverted=inverted)
    return Greys((_TWELVE, _SIXTEEN), inverted=inverted)


def _first(value: object, other: int) -> int:
    """The number of a tag that may hold several."""
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else other
