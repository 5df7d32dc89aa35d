"""Colours of 16 bits a channel (PNG, TIFF), of which Pillow keeps the upper 8: those of 12 bits keep theirs.

A file of 16 bits from a camera of 12 has no value over 4095, so its upper bytes are at most 15 and nearly black. Its
lower bytes are what Pillow reads if it takes the two bytes of a value in the other order; grey beside an opacity
(LA;16B) are four bytes a pixel, as red, green, blue and an opacity of 8 bits are.
"""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

_OTHER_ORDER = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B",  # of this machine, whose lower bytes come first
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B",
    "LA;16B": "RGBA",
}
_DARK = 15


def is_deep(image: Image.Image) -> bool:
    """Whether an image that has not been decoded has colours of 16 bits."""
    return any(_layout(tile) in _OTHER_ORDER for tile in getattr(image, "tile", ()))


def is_dark(upper: Image.Image) -> bool:
    """Whether the upper bytes of all values are those of 12 bits."""
    return int(np.asarray(upper).max()) <= _DARK


def with_lower(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """The upper 8 of 12 bits, from the upper and the lower 8 of 16."""
    high, low = np.asarray(upper), np.asarray(lower)
    return Image.fromarray(high << 4 | low >> 4)


def lower_bytes(image: Any) -> Image.Image:
    """The lower bytes of the colours of an image that has not been decoded, as RGB."""
    is_grey = any(_layout(tile) == "LA;16B" for tile in image.tile)
    image.tile = [tile._replace(args=_other_order(tile.args)) for tile in image.tile]
    turned = ImageOps.exif_transpose(image)
    channels = turned.split()
    return Image.merge("RGB", (channels[1],) * 3 if is_grey else channels[:3])


def _layout(tile: object) -> str:
    args = getattr(tile, "args", None)
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _other_order(args: Any) -> Any:
    return (_OTHER_ORDER[args[0]], *args[1:]) if isinstance(args, tuple) else _OTHER_ORDER[args]
