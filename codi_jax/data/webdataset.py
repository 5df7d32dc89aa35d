"""WebDataset shards: tars whose files of one sample lie beside one another under one key, as img2dataset and
video2dataset write them (KEY.jpg, KEY.mp4, KEY.txt, KEY.json), here or on gs:// and s3://.

    {"name": "webdataset", "shards": "gs://bucket/laion/{00000..00999}.tar", "media": {"modalities": ("text", "image")}}

A tar has no table of contents, so its headers are read once, from one to the next; `index` is a folder in which what
was found is kept, a file a shard. After that any sample is read by where its bytes lie. A shard that was cut in the
middle has the samples before the cut.
"""

import dataclasses
import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.data import files
from codi_jax.data.decoded_source import SUFFIXES, MediaConfig, is_caption
from codi_jax.data.files import MediaError, MediaFile
from codi_jax.data.skip_bad_samples import FaultsConfig

_KIND = {suffix: name for name, suffixes in SUFFIXES.items() for suffix in suffixes}
MAX_SAMPLES = 10_000_000  # of one shard
_THREADS = 16  # that read headers


@dataclasses.dataclass(frozen=True)
class WebDatasetConfig:
    """Shards.

    Attributes:
      shards: a path with {000..123} for numbers and * for anything.
      media: see MediaConfig.
      caption: the key of a sample's json file under which its caption stands, where there is no txt file.
      index: folder for what was found in the tars; empty for none.
      faults: see FaultsConfig.
    """

    shards: str
    media: MediaConfig
    caption: str = "caption"
    index: str = ""
    faults: FaultsConfig = dataclasses.field(default_factory=FaultsConfig)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Where a file of a sample lies in its shard."""

    suffix: str
    offset: int
    size: int


class WebDataset:
    """Records of shards, in the order of their names."""

    def __init__(self, config: WebDatasetConfig):
        """Finds the samples.

        Raises:
          ConfigError: no shards, one that is no tar, or none with a sample of what is asked for.
        """
        self._config = config
        self.shards = expand(config.shards)
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(self._contents, self.shards))
        self._needs = config.media.needs()
        self._samples: list[tuple[str, dict[str, _Part]]] = []
        ends = []
        for samples in found:
            self._samples += [s for s in samples if all(any(name in s[1] for name in among) for among in self._needs)]
            ends.append(len(self._samples))
        self._ends = np.asarray(ends)
        if not self._samples:
            there = sorted({p for samples in found for _, parts in samples for p in parts})
            raise ConfigError(
                f"{config.shards}: no sample has {' and '.join(config.media.modalities)}; {len(self.shards)} shards "
                f"hold {sum(map(len, found))} samples with {', '.join(there) or 'nothing'}"
            )

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        key, parts = self._samples[index]
        shard = self.shards[int(np.searchsorted(self._ends, index, side="right"))]
        record: dict[str, Any] = {"name": f"{shard}/{key}"}
        for kind in {next(name for name in among if name in parts): None for among in self._needs}:
            part = parts[kind]
            called = f"{shard}/{key}.{part.suffix}"
            if part.size > files.MAX_BYTES:
                raise MediaError("large", f"{called}: larger than {files.MAX_BYTES >> 20} MiB")
            data = _bytes(shard, part)
            if len(data) < part.size:
                raise MediaError("unreadable", f"{called}: the tar ends within it")
            record[kind] = (
                _caption(called, part, data, self._config.caption) if is_caption(kind) else MediaFile(called, data)
            )
        return record

    def _contents(self, shard: str) -> list[tuple[str, dict[str, _Part]]]:
        """The samples of a shard, from the index if they are there."""
        path = storage.as_path(shard)
        size = _size(shard)
        kept = None
        if self._config.index:
            name = hashlib.sha256(f"{shard} {size}".encode()).hexdigest()[:24]
            kept = storage.as_path(self._config.index) / f"{name}.json"
            try:
                return [
                    (str(key), {str(n): _Part(str(s), int(o), int(b)) for n, (s, o, b) in parts.items()})
                    for key, parts in json.loads(kept.read_text())
                ]
            except (OSError, ValueError, TypeError, AttributeError):
                pass  # not there, or damaged: the tar is read
        with path.open("rb") as stream:
            samples = list(_samples(shard, stream))
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            listed = [(k, {n: (p.suffix, p.offset, p.size) for n, p in parts.items()}) for k, parts in samples]
            storage.write_text(kept, json.dumps(listed))
        return samples


def _samples(shard: str, stream: BinaryIO) -> Iterator[tuple[str, dict[str, _Part]]]:
    """Key and files of every sample; of several files of one kind the first in `SUFFIXES` counts."""
    key, parts, count = None, {}, 0
    for name, part in _members(shard, stream):
        if name != key:
            if parts:
                yield key, parts
            key, parts, count = name, {}, count + 1
            if count > MAX_SAMPLES:
                raise ConfigError(f"{shard}: over {MAX_SAMPLES} samples in one tar")
        kind = _KIND.get(part.suffix)
        if kind and (kind not in parts or _rank(kind, part) < _rank(kind, parts[kind])):
            parts[kind] = part
    if parts:
        yield key, parts


def _rank(kind: str, part: _Part) -> int:
    return SUFFIXES[kind].index(part.suffix)


def _members(shard: str, stream: BinaryIO) -> Iterator[tuple[str, _Part]]:
    """Key and place of every regular file of a tar, as far as it goes."""
    try:
        tar = tarfile.TarFile(fileobj=stream)
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"{shard}: not a tar ({error})") from error
    with tar:
        while True:
            try:
                member = tar.next()
            except (tarfile.TarError, OSError, ValueError, OverflowError):  # it was cut, or goes on as something else
                return
            if member is None:
                return
            tar.members = []  # it would keep them all
            folder, _, name = member.name.rpartition("/")
            stem, dot, suffix = name.partition(".")
            if member.isreg() and not member.issparse() and dot and stem:
                yield f"{folder}/{stem}".lstrip("/"), _Part(suffix.lower(), member.offset_data, member.size)


def _caption(called: str, part: _Part, data: bytes, field: str) -> Any:
    try:
        text = data.decode("utf-8-sig")
        if part.suffix == "txt":
            return text
        return json.loads(text)[field]
    except UnicodeDecodeError:
        raise MediaError("unreadable", f"{called}: not UTF-8") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MediaError("unreadable", f"{called}: no {field!r} in it") from None


def _size(shard: str) -> int:
    if storage.is_remote(shard):
        import fsspec

        system, key = fsspec.core.url_to_fs(shard)
        return int(system.info(key)["size"])
    return storage.as_path(shard).stat().st_size


def _bytes(shard: str, part: _Part) -> bytes:
    """A part of a file; of a store, only that part is fetched."""
    if storage.is_remote(shard):
        import fsspec

        system, key = fsspec.core.url_to_fs(shard)
        return system.cat_file(key, start=part.offset, end=part.offset + part.size)
    with open(shard, "rb") as stream:
        stream.seek(part.offset)
        return stream.read(part.size)


def expand(pattern: str) -> list[str]:
    """The paths that a pattern with {000..123} and * stands for, in order.

    Raises:
      ConfigError: a range that is none, or nothing that fits.
    """
    braces = re.search(r"\{([^}]*)\}", pattern)
    if braces:
        numbers = re.fullmatch(r"(\d+)\.\.(\d+)", braces[1])
        if not numbers or int(numbers[1]) > int(numbers[2]):
            raise ConfigError(f"{pattern}: braces hold a range of numbers, as in {{000..123}}, not {braces[0]}")
        first, last, width = int(numbers[1]), int(numbers[2]), len(numbers[1])
        named = (f"{pattern[: braces.start()]}{n:0{width}d}{pattern[braces.end() :]}" for n in range(first, last + 1))
        return [path for one in named for path in expand(one)]
    path = storage.as_path(pattern)
    if "*" not in path.name:
        if not path.is_file():
            raise ConfigError(f"{pattern}: no such shard")
        return [pattern]
    found = sorted(str(p) for p in path.parent.glob(path.name))
    if not found:
        raise ConfigError(f"{pattern}: no shard is called so")
    return found
