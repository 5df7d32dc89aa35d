"""What a TIFF file is that Pillow does not read, for a message: the number and the kind of its channels."""

import struct
from typing import BinaryIO

from PIL import Image

_BITS, _CHANNELS, _PLANES, _SAMPLE_FORMAT = 258, 277, 284, 339  # tags
_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex numbers"}
_MAX_TAGS = 4096
# The first bytes -> byte order, the numbers of tags, of bytes of an offset, and where the first offset stands.
_LAYOUTS = {
    b"II*\0": ("<", "H", "L", 4),
    b"MM\0*": (">", "H", "L", 4),
    b"II+\0": ("<", "Q", "Q", 8),
    b"MM\0+": (">", "Q", "Q", 8),
}


def unread_kind(stream: BinaryIO) -> str | None:
    """What a TIFF file holds, in words; None if it is none, or too damaged to say."""
    stream.seek(0)
    if (layout := _LAYOUTS.get(stream.read(4))) is None:
        return None
    try:
        tags = _first_numbers(stream, *layout)
    except (struct.error, OSError, OverflowError, ValueError):
        return None
    channels, bits = tags.get(_CHANNELS, 1), tags.get(_BITS, 1)
    kind = _FORMATS.get(tags.get(_SAMPLE_FORMAT, 1), "values of an unknown kind")
    many = "1 channel" if channels == 1 else f"{channels} channels"
    return f"a TIFF of {many} of {bits}-bit {kind}, which is not read; save it as RGB, or as grey of 8 or 16 bits"


def has_deep_planes(image: Image.Image) -> bool:
    """Whether a TIFF keeps its channels apart with more than 8 bits each, which Pillow reads as bytes, so wrongly."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(_PLANES) == 2 and len(image.getbands()) > 1 and max(tags.get(_BITS, (8,))) > 8


def _first_numbers(stream: BinaryIO, order: str, count: str, offset: str, at: int) -> dict[int, int]:
    """The first number of each tag of the first image that holds short numbers."""

    def read(layout: str) -> int:
        return struct.unpack(order + layout, stream.read(struct.calcsize(order + layout)))[0]

    stream.seek(at)
    stream.seek(read(offset))
    entries = []
    for _ in range(min(read(count), _MAX_TAGS)):
        tag, kind, values, content = read("H"), read("H"), read(offset), stream.read(struct.calcsize(order + offset))
        if kind == 3:
            entries.append((tag, values, content))
    numbers = {}
    for tag, values, content in entries:
        if 2 * values > len(content):  # the numbers stand elsewhere
            stream.seek(struct.unpack(order + offset, content)[0])
            content = stream.read(2)
        numbers[tag] = struct.unpack(f"{order}H", content[:2])[0]
    return numbers
