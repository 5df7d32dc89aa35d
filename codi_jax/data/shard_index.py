"""The contents of a tar shard: its samples and where their files begin, in 13 to 40 bytes a sample and its key.

    header    a line of JSON: {"samples", "kinds", "sets", "keys", "others", "damage", "cut"}
    rows      [samples]: key_end u4, and for each of `kinds` block u4 (of 512 bytes), size u4, suffix u1 (255: no file)
    keys      their names, UTF-8, one after the other

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
from codi_jax.data.tar import Tar

MAX_SAMPLES = 10_000_000  # in one shard
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
        path.write_bytes(json.dumps({**header, "keys": keys}).encode() + b"\n" + self.content)


def scan(shard: str, stream: Any) -> ShardIndex:
    """Reads all headers of a tar; of several files of one kind of a sample, the first suffix in `SUFFIXES` wins.

    Args:
      shard: its path, for messages.
      stream: binary and seekable.

    Raises:
      ConfigError: it has more than `MAX_SAMPLES` samples.
    """
    tar, others = Tar(stream), Counter()
    columns = {kind: (array("I"), array("I"), array("B")) for kind in SUFFIXES}
    key, keys, ends, in_sample = "", bytearray(), array("I"), False
    for member in tar:
        folder, _, name = member.name.rpartition("/")
        stem, dot, suffix = name.partition(".")
        if not (stem and dot):
            continue
        own = f"{folder}/{stem}".lstrip("/")
        if own != key:
            key, in_sample = own, False
        suffix = suffix.lower()
        if suffix not in _KIND:
            others[suffix[:20]] += 1
            continue
        if not in_sample:
            in_sample = True
            keys += own.encode("utf-8", "replace")
            ends.append(len(keys))
            if len(ends) > MAX_SAMPLES:
                raise ConfigError(f"{shard}: over {MAX_SAMPLES} samples in one tar")
            for blocks, sizes, suffixes in columns.values():
                blocks.append(0)
                sizes.append(0)
                suffixes.append(_NONE)
        kind, rank = _KIND[suffix]
        blocks, sizes, suffixes = columns[kind]
        if rank < suffixes[-1]:
            blocks[-1], sizes[-1] = member.offset // _BLOCK, min(member.size, 2**32 - 1)
            suffixes[-1] = rank
    present = {kind: np.asarray(suffixes) != _NONE for kind, (_, _, suffixes) in columns.items()}
    kinds = tuple(kind for kind, has in present.items() if has.any())
    rows = np.empty(len(ends), _dtype(kinds))
    rows["key_end"] = ends
    for kind in kinds:
        for field, column in zip(("block", "size", "suffix"), columns[kind], strict=True):
            rows[kind][field] = column
    code = np.zeros(len(ends), int)
    for k, kind in enumerate(kinds):
        code |= present[kind] << k
    codes, counts = np.unique(code, return_counts=True)
    sets = {
        "+".join(kind for k, kind in enumerate(kinds) if code >> k & 1): count
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
    }
    return ShardIndex(len(ends), kinds, sets, dict(others), tar.damage, tar.cut, rows.tobytes() + bytes(keys))


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
        samples, keys = int(tree["samples"]), int(tree["keys"])
        damage, cut = str(tree["damage"]), bool(tree["cut"])
        index = ShardIndex(samples, kinds, sets, others, damage, cut, b"", str(path), len(header), stamp)
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError("not an index") from error
    whole = len(header) + samples * _dtype(kinds).itemsize + keys == size and 0 <= samples <= MAX_SAMPLES and keys >= 0
    if not whole or not set(kinds) <= set(SUFFIXES) or sum(sets.values()) != samples:
        raise ValueError("not an index")
    return index


def _dtype(kinds: Sequence[str]) -> np.dtype:
    part = [("block", "<u4"), ("size", "<u4"), ("suffix", "u1")]
    return np.dtype([("key_end", "<u4"), *((kind, part) for kind in kinds)])


@functools.lru_cache(maxsize=_MAPPED)
def _mapped(path: str, stamp: int) -> np.ndarray:
    del stamp
    return np.memmap(path, np.uint8, "r")
