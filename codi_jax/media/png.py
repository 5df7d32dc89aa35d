"""The chunks of a PNG file: an image is read without the texts beside it if these are too long for Pillow.

Pillow refuses texts that unpack to more than 1 MiB each or 64 MiB together, and reads a chunk whole before it counts.
"""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGE = 16 << 20  # bytes of a chunk
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND"}
_MAX_KEPT = 512 << 20  # bytes; 64 megapixels of 8 bytes


def is_png(stream: BinaryIO) -> bool:
    """Whether a stream is a PNG file; it is left at its beginning."""
    stream.seek(0)
    begins = stream.read(len(SIGNATURE))
    stream.seek(0)
    return begins == SIGNATURE


def has_large_chunk(stream: BinaryIO) -> bool:
    """Whether a chunk without pixels has more than `LARGE` bytes; the stream is left at its beginning."""
    found = any(size > LARGE and kind not in _PIXELS for kind, _, size in _chunks(stream))
    stream.seek(0)
    return found


def without_texts(stream: BinaryIO) -> BinaryIO:
    """The file with the chunks of its pixels and its orientation alone, in memory.

    Raises:
      ValueError: these have more than 512 MiB.
    """
    out = io.BytesIO()
    out.write(SIGNATURE)
    for kind, start, size in _chunks(stream):
        if kind in _PIXELS:
            if out.tell() + size > _MAX_KEPT:
                raise ValueError("too many bytes")
            stream.seek(start)
            out.write(stream.read(size))
    out.seek(0)
    return out


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each chunk, where it begins and its size, with its length and checksum."""
    at = len(SIGNATURE)
    while True:
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, at, length + 12
        if kind == b"IEND":
            return
        at += length + 12
