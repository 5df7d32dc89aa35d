"""WebDataset shards: tars in which the files of one sample are adjacent and share a key, as img2dataset and
video2dataset write them (KEY.jpg, KEY.mp4, KEY.txt, KEY.json), local or on gs:// or s3://.

    {"name": "webdataset", "shards": "gs://bucket/laion/{00000..00999}.tar", "media": {"modalities": ("text", "image")}}

A tar has no table of contents, so all headers are scanned once; `index` is a folder that caches the result, one file
per shard (data.shard_index), as long as the size, time and ETag of the shard are the same. Samples are then read by
byte offset, their files by one request. A damaged shard has its whole samples, and is one of the bad ones that
`faults.max_bad_fraction` allows.
"""

import dataclasses
import hashlib
import json
import logging
import os
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax import range_reads, storage
from codi_jax.config import NO_EFFECT, ConfigError, config_class
from codi_jax.data import shard_index
from codi_jax.data.decoded_source import MediaConfig, is_caption, media_source
from codi_jax.data.shard_index import Part, ShardIndex
from codi_jax.data.skip_bad_samples import FaultsConfig, SkipBadSamples
from codi_jax.data.source import register
from codi_jax.media import files
from codi_jax.media.files import MediaError, MediaFile
from codi_jax.range_reads import read_ranges

_LOGGER = logging.getLogger(__name__)
_THREADS = 16  # for scanning headers
_MAX_INDEX = 1 << 30  # bytes of an index file


@config_class()
class WebDatasetConfig:
    """Config of a WebDataset source.

    Attributes:
      shards: paths between commas, in which {000..123} stands for a range of numbers, {a,b} for either, * for anything.
      media: see MediaConfig.
      caption: key of the caption in a sample's json file, used if the sample has no txt file.
      index: folder that caches the contents of the tars; empty for none.
      faults: see FaultsConfig.
    """

    shards: str
    media: MediaConfig
    caption: str = "caption"
    index: str = dataclasses.field(default="", metadata=NO_EFFECT)
    faults: FaultsConfig = dataclasses.field(default_factory=FaultsConfig)


class WebDataset:
    """The records of shards, in the order of the shard names, for `DecodedSource`."""

    def __init__(self, config: WebDatasetConfig):
        """Scans the shards, or reads the index.

        Raises:
          ConfigError: there are no shards, too many are damaged, or no sample has all modalities.
        """
        self._config = config
        self.shards = expand(config.shards)
        try:
            versions = _versions(self.shards)
            with ThreadPoolExecutor(_THREADS) as pool:
                self._contents = list(pool.map(self._read, self.shards, versions))
        except FileNotFoundError as error:
            raise ConfigError(f"{error.filename or error}: no such shard") from error
        except OSError as error:
            raise ConfigError(
                f"{error.filename or config.shards}: cannot be read ({error.strerror or error})"
            ) from error
        self._check_damage()
        self._needs = config.media.needs()
        self._rows = [contents.complete(self._needs) for contents in self._contents]
        pairs = zip(self._rows, self._contents, strict=True)
        self._ends = np.cumsum([contents.samples if rows is None else len(rows) for rows, contents in pairs])
        if not len(self):
            present = sorted({kind for c in self._contents for kind in c.kinds})
            raise ConfigError(
                f"{config.shards}: no sample has {' and '.join(config.media.modalities)}; {len(self.shards)} shards "
                f"hold {sum(c.samples for c in self._contents)} samples with {', '.join(present) or 'nothing'}"
                + "".join(f"; {note}" for note in self._others())
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        row = index - (int(self._ends[number - 1]) if number else 0)
        rows, contents, shard = self._rows[number], self._contents[number], self.shards[number]
        row = row if rows is None else int(rows[row])
        key = contents.key(row)
        parts: dict[str, Part] = {}
        for options in self._needs:
            found = ((kind, part) for kind in options if (part := contents.part(row, kind)) is not None)
            if (first := next(found, None)) is None:
                raise MediaError("damaged", f"{shard}/{key}: the index of the shard is damaged; delete it")
            parts[first[0]] = first[1]
        record: dict[str, Any] = {"name": f"{shard}/{key}"}
        for (kind, part), data in zip(parts.items(), _read_parts(shard, key, list(parts.values())), strict=True):
            path = f"{shard}/{key}.{part.suffix}"
            record[kind] = (
                _caption(path, part, data, self._config.caption) if is_caption(kind) else MediaFile(path, data)
            )
        return record

    def _check_damage(self) -> None:
        """Counts one sample for each damaged shard; of one that is cut, what it lacks to the median of whole ones."""
        damaged = self._damaged()
        if not damaged:
            return
        whole = [c.samples for c in self._contents if not c.cut]
        lost = sum(max(statistics.median(whole) - c.samples, 1) if c.cut and whole else 1 for _, c in damaged)
        total, limit = lost + sum(c.samples for c in self._contents), self._config.faults.max_bad_fraction
        if lost > limit * total or (limit < 1 and not whole):
            shard, contents = damaged[0]
            raise ConfigError(
                f"data: {len(damaged)} of {len(self.shards)} shards are damaged, and more of their samples lost than "
                f"max_bad_fraction={limit:g} allows; the first, {shard}: {contents.damage}"
            )
        for shard, contents in damaged:
            _LOGGER.warning("%s: %s; its other samples are used", shard, contents.damage)

    def _damaged(self) -> list[tuple[str, ShardIndex]]:
        return [(shard, c) for shard, c in zip(self.shards, self._contents, strict=True) if c.damage]

    def notes(self) -> list[str]:
        """What is lost and what is passed over, as lines of text."""
        damaged = [f"{shard}: {contents.damage}" for shard, contents in self._damaged()]
        return damaged + self._others()

    def _others(self) -> list[str]:
        others = sum((Counter(c.others) for c in self._contents), Counter())
        named = ", ".join(f"{suffix} {count}" for suffix, count in others.most_common(10))
        return [f"files of other kinds are passed over: {named}"] if named else []

    def _read(self, shard: str, version: str) -> ShardIndex:
        """The contents of a shard, from the index if it has them."""
        file, stored = None, None
        if self._config.index:
            name = f"{hashlib.sha256(f'{shard} {version}'.encode()).hexdigest()[:24]}.index"
            stored = storage.as_path(self._config.index) / name
            file = stored
            if storage.is_remote(stored):  # kept on the disk, where it can be mapped into memory
                folder = storage.cache_folder("shards")
                file = folder / name if folder is not None else None
            if file is not None and (contents := _read_index(file, stored)) is not None:
                return contents
        with range_reads.open_stream(shard) as stream:
            contents = shard_index.scan(shard, stream)
        if stored is None or file is None:
            return contents
        for path in dict.fromkeys((stored, file)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with storage.atomic_write(path, shared=True) as temporary:
                contents.write(temporary)
        return shard_index.read(file)


def _read_index(file: Path, stored: Path) -> ShardIndex | None:
    """The contents in an index file, which is copied from the store first; None if it is missing or damaged."""
    for copied in (False, True):
        try:
            if copied and file != stored:
                (data,) = range_reads.read_ranges([(str(stored), 0, _MAX_INDEX)])
                with storage.atomic_write(file, shared=True) as temporary:
                    temporary.write_bytes(data)
            return shard_index.read(file)
        except (OSError, ValueError) as error:
            if isinstance(error, ConfigError):  # a store does not answer
                raise
    return None


def _caption(path: str, part: Part, data: bytes, field: str) -> Any:
    try:
        text = data.decode("utf-8-sig")
        if part.suffix == "txt":
            return text
        return json.loads(text)[field]
    except UnicodeDecodeError:
        raise MediaError("value", f"{path}: not UTF-8") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MediaError("value", f"{path}: has no field {field!r}") from None


def _versions(shards: Sequence[str]) -> list[str]:
    """What changes when a shard is written again, for each shard."""
    if not any(map(storage.is_remote, shards)):
        return [f"{stat.st_size} {stat.st_mtime_ns}" for stat in map(os.stat, shards)]
    fields = ("size", "etag", "generation", "lastmodified", "updated")
    told = range_reads.stored_files(shards).values()
    lowered = [{name.lower(): value for name, value in info.items()} for info in told]
    return [" ".join(str(info.get(name)) for name in fields) for info in lowered]


def _read_parts(shard: str, key: str, parts: Sequence[Part]) -> list[bytes]:
    """The bytes of the files of a sample; of a stored shard only these are fetched.

    Raises:
      MediaError: a file is too large or incomplete, or the shard is gone or cannot be read.
    """
    for part in parts:
        if part.size > files.MAX_BYTES:
            raise MediaError("large", f"{shard}/{key}.{part.suffix}: larger than {files.MAX_BYTES >> 20} MiB")
    try:
        out = read_ranges([(shard, part.offset, part.offset + part.size) for part in parts])
    except FileNotFoundError:
        raise MediaError("missing", f"{shard}: the shard is no longer there") from None
    except OSError as error:
        raise MediaError("missing", f"{shard}: the shard cannot be read ({error.strerror or error})") from error
    for part, data in zip(parts, out, strict=True):
        if len(data) < part.size:
            raise MediaError("cut", f"{shard}/{key}.{part.suffix}: the tar ends before the end of the file")
    return out


def expand(pattern: str) -> list[str]:
    """Expands patterns between commas, with {000..123}, {a,b} and *, to paths, in order.

    Raises:
      ConfigError: braces contain neither a range of numbers nor a list, or no file matches.
    """
    patterns = re.findall(r"(?:\{[^}]*\}|[^,])+", pattern)
    if len(patterns) > 1:
        return [path for one in patterns for path in expand(one.strip())]
    braces = re.search(r"\{([^}]*)\}", pattern)
    if braces:
        numbers = re.fullmatch(r"(\d+)\.\.(\d+)", braces[1])
        if numbers and int(numbers[1]) <= int(numbers[2]):
            parts = [f"{n:0{len(numbers[1])}d}" for n in range(int(numbers[1]), int(numbers[2]) + 1)]
        elif "," in braces[1]:
            parts = [part.strip() for part in braces[1].split(",")]
        else:
            raise ConfigError(
                f"{pattern}: expected a range of numbers or a list in braces, as in {{000..123}} or {{train,val}}, got "
                f"{braces[0]}"
            )
        before, after = pattern[: braces.start()], pattern[braces.end() :]
        return [path for part in parts for path in expand(before + part + after)]
    path = storage.as_path(pattern)
    if "*" not in path.name:
        if not storage.is_remote(path) and not path.is_file():  # stored ones are listed together later
            raise ConfigError(f"{pattern}: no such shard")
        return [str(path)]
    listed = range_reads.retried(lambda: list(path.parent.glob(path.name)), pattern)
    paths = sorted(map(str, listed))
    if not paths:
        raise ConfigError(f"{pattern}: no such shard")
    return paths


@register("webdataset", WebDatasetConfig)
def _webdataset_source(config: WebDatasetConfig) -> SkipBadSamples:
    return media_source(WebDataset(config), config.media, config.faults)
