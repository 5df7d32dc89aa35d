"""The contents of a tar shard: its samples and where their files begin, in 13 to 40 bytes a sample and its key.

    header    a line of JSON: {"format", "samples", "kinds", "sets", "keys", "others", "damage", "cut"}
    rows      [samples]: key_end u4, and for each of `kinds` block u4 (of 512 bytes), size u4, suffix u1 (255: no file)
    keys      their names, UTF-8, one after the other

A key ends at the first dot of a file's name, as in webdataset: a.jpg and a.seg.png are of one sample, and seg.png is no
suffix of a kind. If no adjacent file of that key has one dot only, dots are part of the keys: 3.5.jpg and 3.5.txt are
the sample 3.5.

A kind is a modality of `decoded_source.SUFFIXES`, and `sets` counts samples by their kinds. An index file is mapped
into memory when it is first read, so all processes of a host share it, and only what is read of it takes memory.
"""

import dataclasses
import functools
import json
import os
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data.decoded_source import SUFFIXES
from codi_jax.data.tar import Member, Tar, refuse_compressed

MAX_SAMPLES = 10_000_000  # in one shard
_FORMAT = 2  # of index files
_MAX_HEADER = 1 << 20
_BLOCK = 512
_NONE = 255
_KIND = {suffix: (kind, k) for kind, suffixes in SUFFIXES.items() for k, suffix in enumerate(suffixes)}
_MAPPED = 16_384  # index files that are mapped at once; Linux allows 65,530 maps


class Part(NamedTuple):
    """The location of one file of a sample in its shard."""

    suffix: str
    offset: int
    size: int


@dataclasses.dataclass(frozen=True)
class ShardIndex:
    """The contents of a shard.

    Attributes:
      samples: their number.
      kinds: the kinds of their files.
      sets: "text+image" -> the number of samples with files of these kinds.
      others: number of files of other kinds, by suffix.
      damage, cut: see `data.tar.Tar`.
      content: rows and keys, if they are in memory.
      file: the index file that has them; empty if they are in memory.
      begin: where the rows begin in that file.
      stamp: tells the file from an earlier one of its name.
    """

    samples: int
    kinds: tuple[str, ...]
    sets: dict[str, int]
    others: dict[str, int]
    damage: str
    cut: bool
    content: bytes = b""
    file: str = ""
    begin: int = 0
    stamp: int = 0

    def part(self, row: int, kind: str) -> Part | None:
        """The file of a kind of a sample."""
        if kind not in self.kinds:
            return None
        block, size, suffix = self._rows[kind][row].item()
        suffixes = SUFFIXES[kind]
        return Part(suffixes[suffix], block * _BLOCK, size) if suffix < len(suffixes) else None

    def key(self, row: int) -> str:
        """The key of a sample: what the names of its files begin with."""
        rows, keys = self._arrays()
        start, end = int(rows["key_end"][row - 1]) if row else 0, int(rows["key_end"][row])
        return keys[start:end].tobytes().decode("utf-8", "replace")

    def complete(self, needs: Sequence[Sequence[str]]) -> np.ndarray | None:
        """The rows of the samples that have a file of one of the kinds in each of `needs`; None for all rows."""
        lacking = [s for s in self.sets if not all(set(options) & set(s.split("+")) for options in needs)]
        if not lacking:
            return None
        if len(lacking) == len(self.sets):
            return np.zeros(0, np.uint32)
        mask = np.ones(self.samples, bool)
        for options in needs:
            mask &= np.any([self._rows[k]["suffix"] != _NONE for k in options if k in self.kinds], axis=0)
        return np.flatnonzero(mask).astype(np.uint32)

    @property
    def _rows(self) -> np.ndarray:
        return self._arrays()[0]

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows, and the bytes of the keys."""
        data = _mapped(self.file, self.stamp) if self.file else np.frombuffer(self.content, np.uint8)
        dtype = _dtype(self.kinds)
        end = self.begin + self.samples * dtype.itemsize
        return data[self.begin : end].view(dtype), data[end:]

    def write(self, path: Path) -> None:
        """Writes the index of a shard that has been scanned."""
        header = {field: getattr(self, field) for field in ("samples", "kinds", "sets", "others", "damage", "cut")}
        keys = len(self.content) - self.samples * _dtype(self.kinds).itemsize
        path.write_bytes(json.dumps({"format": _FORMAT, **header, "keys": keys}).encode() + b"\n" + self.content)


def scan(shard: str, stream: Any) -> ShardIndex:
    """Reads all headers of a tar; of several files of one kind of a sample, the first suffix in `SUFFIXES` wins.

    Args:
      shard: its path, for messages.
      stream: binary and seekable.

    Raises:
      ConfigError: it is compressed, or has more than `MAX_SAMPLES` samples.
    """
    refuse_compressed(shard, stream)
    tar, samples = Tar(stream), _Samples()
    for member in tar:
        samples.add(member)
        if len(samples) > MAX_SAMPLES:
            raise ConfigError(f"{shard}: over {MAX_SAMPLES} samples in one tar")
    return samples.index(tar.damage, tar.cut)


class _Samples:
    """The samples of a tar, while it is read; adjacent files are a group as long as their names begin as webdataset's
    keys do."""

    def __init__(self):
        self._others, self._keys, self._ends = Counter[str](), bytearray(), array("I")
        self._columns = {kind: (array("I"), array("I"), array("B")) for kind in SUFFIXES}
        self._group, self._begin = "", 0  # its key by webdataset, and its first sample
        self._has_plain = False  # whether a file of it has no dot beside that of its suffix
        self._key: str | None = None  # of the last sample, if it is of this group

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, member: Member) -> None:
        """Adds a file: to the last sample, or as one of a new one, or to the files of other kinds."""
        folder, _, name = member.name.rpartition("/")
        stem, dot, extension = name.partition(".")
        if not (stem and dot):
            return
        group = f"{folder}/{stem}".lstrip("/")
        if group != self._group:
            self._group, self._begin, self._has_plain, self._key = group, len(self), False, None
        inner, _, suffix = extension.rpartition(".")
        if not inner and not self._has_plain:
            self._has_plain, self._key = True, None
            self._drop_group()
        if suffix.lower() not in _KIND or (inner and self._has_plain):
            self._others[extension.lower()[:20]] += 1
            return
        key = f"{group}.{inner}" if inner else group
        if key != self._key:
            self._start(key)
        kind, rank = _KIND[suffix.lower()]
        blocks, sizes, suffixes = self._columns[kind]
        if rank < suffixes[-1]:
            blocks[-1], sizes[-1] = member.offset // _BLOCK, min(member.size, 2**32 - 1)
            suffixes[-1] = rank

    def _start(self, key: str) -> None:
        self._key = key
        self._keys += key.encode("utf-8", "replace")
        self._ends.append(len(self._keys))
        for blocks, sizes, suffixes in self._columns.values():
            blocks.append(0)
            sizes.append(0)
            suffixes.append(_NONE)

    def _drop_group(self) -> None:
        """Counts the files of this group as of other kinds: what seemed to be of their keys is of their suffixes."""
        for row in range(self._begin, len(self)):
            start, end = self._ends[row - 1] if row else 0, self._ends[row]
            inner = self._keys[start:end].decode()[len(self._group) + 1 :]
            for kind, (_, _, suffixes) in self._columns.items():
                if suffixes[row] != _NONE:
                    self._others[f"{inner}.{SUFFIXES[kind][suffixes[row]]}".lower()[:20]] += 1
        del self._keys[self._ends[self._begin - 1] if self._begin else 0 :]
        for column in (self._ends, *(column for columns in self._columns.values() for column in columns)):
            del column[self._begin :]

    def index(self, damage: str, cut: bool) -> ShardIndex:
        """The index of these samples."""
        present = {kind: np.asarray(suffixes) != _NONE for kind, (_, _, suffixes) in self._columns.items()}
        kinds = tuple(kind for kind, has in present.items() if has.any())
        rows = np.empty(len(self), _dtype(kinds))
        rows["key_end"] = self._ends
        for kind in kinds:
            for field, column in zip(("block", "size", "suffix"), self._columns[kind], strict=True):
                rows[kind][field] = column
        code = np.zeros(len(self), int)
        for k, kind in enumerate(kinds):
            code |= present[kind] << k
        codes, counts = np.unique(code, return_counts=True)
        sets = {
            "+".join(kind for k, kind in enumerate(kinds) if code >> k & 1): count
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
        }
        content = rows.tobytes() + bytes(self._keys)
        return ShardIndex(len(self), kinds, sets, dict(self._others), damage, cut, content)


def read(path: Path) -> ShardIndex:
    """Reads the header of an index file, which is on a disk.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is not an index, or not a whole one.
    """
    with path.open("rb") as file:
        header = file.readline(_MAX_HEADER)
        size, stamp = file.seek(0, os.SEEK_END), os.fstat(file.fileno()).st_ino
    try:
        tree = json.loads(header)
        kinds = tuple(str(kind) for kind in tree["kinds"])
        sets, others = ({str(k): int(n) for k, n in tree[field].items()} for field in ("sets", "others"))
        samples, keys, known = int(tree["samples"]), int(tree["keys"]), tree["format"] == _FORMAT
        damage, cut = str(tree["damage"]), bool(tree["cut"])
        index = ShardIndex(samples, kinds, sets, others, damage, cut, b"", str(path), len(header), stamp)
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError("not an index") from error
    whole = len(header) + samples * _dtype(kinds).itemsize + keys == size and 0 <= samples <= MAX_SAMPLES and keys >= 0
    if not known or not whole or not set(kinds) <= set(SUFFIXES) or sum(sets.values()) != samples:
        raise ValueError("not an index")
    return index


def _dtype(kinds: Sequence[str]) -> np.dtype:
    part = [("block", "<u4"), ("size", "<u4"), ("suffix", "u1")]
    return np.dtype([("key_end", "<u4"), *((kind, part) for kind in kinds)])


@functools.lru_cache(maxsize=_MAPPED)
def _mapped(path: str, stamp: int) -> np.ndarray:
    del stamp
    return np.memmap(path, np.uint8, "r")
