"""The regular files of a tar, which may be damaged: what lies behind a damaged header is found again.

A header is a block of 512 bytes with a checksum; files follow their headers, padded to whole blocks. Two blocks of
zeros end a tar, and what several tars were joined to has such blocks inside. So a tar is damaged where other bytes than
zeros stand between a file and the next header, and cut if it ends without zeros.
"""

import dataclasses
import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

_BLOCK = 512
_ERRORS = (tarfile.TarError, OSError, ValueError, OverflowError)


@dataclasses.dataclass(frozen=True)
class Member:
    """A regular file: its name, where its bytes begin, and how many they are."""

    name: str
    offset: int
    size: int


class _Tar(tarfile.TarFile):
    members: list[tarfile.TarInfo]  # of tarfile, but absent from its type


class Tar:
    """Iterates over the whole files of a tar.

    Attributes:
      damage: after the last file, what is wrong with the tar, in a few words; empty if nothing is.
      cut: whether the rest is lost, and not only a file.
    """

    def __init__(self, stream: BinaryIO):
        self._stream, self.damage, self.cut = stream, "", False

    def __iter__(self) -> Iterator[Member]:
        end, size, found = 0, self._stream.seek(0, os.SEEK_END), False
        if not size:
            self.damage, self.cut = "empty", True
            return
        self._stream.seek(0)
        for header, following in self._headers(size):
            if self._holds(end, header.offset):
                self.damage = self.damage or f"damaged at byte {end}"
            end, found = following, True
            if header.offset_data + (header.size if header.isreg() and not header.issparse() else 0) > size:
                self.damage, self.cut = f"cut inside of {header.name!r:.100}", True
                return
            if header.isreg() and not header.issparse():
                yield Member(header.name, header.offset_data, header.size)
        if not found and (size < 2 * _BLOCK or self._holds(end, size)):
            self.damage, self.cut = "not a tar", True
        elif end + _BLOCK > size:
            self.damage, self.cut = self.damage or f"cut at byte {size}", True
        elif self._holds(end, size):
            self.damage, self.cut = self.damage or f"damaged at byte {end}", True

    def _headers(self, size: int) -> Iterator[tuple[tarfile.TarInfo, int]]:
        """All headers with a right checksum, and where the next one is to be."""
        tar, at = None, 0
        while at < size:
            try:
                tar = tar or _Tar(fileobj=self._stream, ignore_zeros=True)
                header = tar.next()  # at first the one that the constructor has read
            except _ERRORS:
                header = None
                if tar is None:  # its first header is no header
                    return
                if tar.offset > size:
                    return
            else:
                if header is None:
                    return
                tar.members = []  # tarfile would keep all members in memory
                if header.size >= 0 and tar.offset > at:
                    yield header, tar.offset
            at = tar.offset = max(tar.offset, at + _BLOCK)

    def _holds(self, start: int, end: int) -> bool:
        """Whether there is anything but zeros between two bytes of the stream."""
        if start >= end:
            return False
        self._stream.seek(start)
        while start < end and (chunk := self._stream.read(min(end - start, 1 << 20))):
            if chunk.strip(b"\0"):
                return True
            start += len(chunk)
        return False
