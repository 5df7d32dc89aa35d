"""The zip archive of a PyTorch file: names and byte ranges of its entries in a mapped file.

From the end of the file: an end record, preceded in large files by a zip64 end record and its locator, which give the
position of the central directory. The directory has one record per entry with its name, size and the offset of its
local header. The bytes of the entry follow its local header, whose own sizes may be blank. PyTorch stores entries
uncompressed, so the byte range is the content.
"""

import itertools
import struct
import zlib

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop.mapped import MAX_TENSORS, plain

_MAX_ENTRIES = MAX_TENSORS + 64
_MAX_NAME = 1024
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_RECORD = struct.Struct("<4s2B5H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_BLANK = 0xFFFFFFFF  # the value is in the zip64 extra field

_CUT_SHORT = "the zip directory at its end is missing or damaged; is the download incomplete?"


class Archive:
    """The entries of an archive.

    Attributes:
      ranges: name -> first byte and the byte after the last one.
      packed: names of compressed or encrypted entries.

    Raises:
      ConfigError: by the constructor: the archive is damaged, or entries overlap.
    """

    def __init__(self, data: np.ndarray):
        self._data, self._sums = data, {}
        self.ranges: dict[str, tuple[int, int]] = {}
        self.packed: list[str] = []
        count, start, size = _directory(data)
        if count > _MAX_ENTRIES:
            raise ConfigError(f"refused: its archive has over {_MAX_ENTRIES} entries")
        directory = data.data[start : start + size]
        spans, at = [], 0
        for _ in range(count):
            name, packed, checksum, header, length, at = _record(directory, at)
            if name in self.ranges:
                raise ConfigError(f"refused: its archive has {plain(name)} twice")
            first = _content(data, header, name)
            self.ranges[name], self._sums[name] = (first, first + length), checksum
            self.packed += [name] if packed else []
            spans.append((header, first + length, name))
        # Every entry ends before the next begins, the last before the directory.
        spans = [*sorted(spans), (start, start, "")]
        for (_, end, name), (begin, _, _) in itertools.pairwise(spans):
            if end > begin:
                raise ConfigError(f"refused: its archive's entry {plain(name)} overlaps the next one")

    def read(self, name: str, limit: int) -> bytes:
        """The content of a small entry.

        Raises:
          ConfigError: it has more than `limit` bytes, or its checksum differs.
        """
        first, end = self.ranges[name]
        if end - first > limit:
            raise ConfigError(f"refused: its entry {plain(name)} has {end - first} bytes, over {limit}")
        content = self._data[first:end].tobytes()
        if zlib.crc32(content) != self._sums[name]:
            raise ConfigError(f"is damaged: the checksum of its entry {plain(name)} differs")
        return content


def _directory(data: np.ndarray) -> tuple[int, int, int]:
    """The number of entries, first byte and size of the central directory."""
    tail = max(0, data.size - _END.size - (1 << 16))
    content = data[tail:].tobytes()
    at = content.rfind(b"PK\5\6")
    if at < 0 or len(content) - at < _END.size:
        raise ConfigError(_CUT_SHORT)
    _, disk, _, _, count, size, start, comment = _END.unpack_from(content, at)
    end = tail + at
    if disk not in (0, 0xFFFF) or end + _END.size + comment != data.size:
        raise ConfigError(_CUT_SHORT)
    if at >= _LOCATOR.size and content[at - _LOCATOR.size :].startswith(b"PK\6\7"):
        _, _, end, _ = _LOCATOR.unpack_from(content, at - _LOCATOR.size)
        if end + _END64.size > data.size or data[end : end + 4].tobytes() != b"PK\6\6":
            raise ConfigError(_CUT_SHORT)
        *_, count, size, start = _END64.unpack_from(data.data, end)
    if start + size > end:
        raise ConfigError(_CUT_SHORT)
    return count, start, size


def _record(directory: memoryview, at: int) -> tuple[str, bool, int, int, int, int]:
    """Parses a record: name, whether packed, checksum, offset of the local header, size, start of the next record."""
    if at + _RECORD.size > len(directory):
        raise ConfigError(_CUT_SHORT)
    numbers = _RECORD.unpack_from(directory, at)
    magic, *_, flags, method, _, _, checksum, stored, full, name, extra, comment, _, _, _, header = numbers
    end = at + _RECORD.size + name + extra + comment
    if magic != b"PK\1\2" or end > len(directory):
        raise ConfigError(_CUT_SHORT)
    if name > _MAX_NAME:
        raise ConfigError(f"refused: an entry of its archive has a name of over {_MAX_NAME} bytes")
    at += _RECORD.size
    try:
        text = str(directory[at : at + name], "utf-8")
    except UnicodeDecodeError:
        raise ConfigError("refused: the name of an entry of its archive is not UTF-8") from None
    full, stored, header = _zip64(directory[at + name : at + name + extra], full, stored, header)
    packed = method != 0 or flags & 1 != 0
    if stored != full and not packed:
        raise ConfigError(_CUT_SHORT)
    return text, packed, checksum, header, stored, end


def _zip64(extra: memoryview, *numbers: int) -> list[int]:
    """The numbers of a record; blank ones are read from the zip64 extra field, which has them in the same order."""
    out, at = list(numbers), 0
    blank = [i for i, number in enumerate(out) if number == _BLANK]
    while blank and at + 4 <= len(extra):
        field, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if field == 1:
            if length < 8 * len(blank) or at + length > len(extra):
                raise ConfigError(_CUT_SHORT)
            for i, number in zip(blank, struct.unpack_from(f"<{len(blank)}Q", extra, at), strict=True):
                out[i] = number
            return out
        at += length
    if blank:
        raise ConfigError(_CUT_SHORT)
    return out


def _content(data: np.ndarray, header: int, name: str) -> int:
    """The first byte of the content of an entry, after its local header."""
    if header + _LOCAL.size > data.size:
        raise ConfigError(f"refused: its archive's entry {plain(name)} is outside the file")
    magic, *_, length, extra = _LOCAL.unpack_from(data.data, header)
    at = header + _LOCAL.size
    if magic != b"PK\3\4" or data[at : at + length].tobytes() != name.encode():
        raise ConfigError(f"is damaged: the local header of its entry {plain(name)} does not match the directory")
    return at + length + extra
