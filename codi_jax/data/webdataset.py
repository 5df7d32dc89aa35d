"""WebDataset shards: tars in which the files of one sample are adjacent and share a key, as img2dataset and
video2dataset write them (KEY.jpg, KEY.mp4, KEY.txt, KEY.json), local or on gs:// or s3://.

    {"name": "webdataset", "shards": "gs://bucket/laion/{00000..00999}.tar", "media": {"modalities": ("text", "image")}}

A tar has no table of contents, so all headers are scanned once; `index` is a folder that caches the result, one file
per shard, as long as the size, time and ETag of the shard are the same. Samples are then read by byte offset. A
damaged shard has its whole samples, and is one of the bad ones that `faults.max_bad_fraction` allows.
"""

import dataclasses
import hashlib
import json
import logging
import os
import re
import statistics
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np

from codi_jax import storage
from codi_jax.config import NO_EFFECT, ConfigError, config_class
from codi_jax.data.decoded_source import SUFFIXES, MediaConfig, is_caption, media_source
from codi_jax.data.skip_bad_samples import FaultsConfig, SkipBadSamples
from codi_jax.data.source import register
from codi_jax.data.tar import Tar
from codi_jax.media import files
from codi_jax.media.files import MediaError, MediaFile

_KIND = {suffix: name for name, suffixes in SUFFIXES.items() for suffix in suffixes}
_LOGGER = logging.getLogger(__name__)
MAX_SAMPLES = 10_000_000  # in one shard
_THREADS = 16  # for scanning headers


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


@dataclasses.dataclass(frozen=True)
class _Part:
    """The location of one file of a sample in its shard."""

    suffix: str
    offset: int
    size: int


class WebDataset:
    """The records of shards, in the order of the shard names, for `DecodedSource`."""

    def __init__(self, config: WebDatasetConfig):
        """Scans the shards, or reads the index.

        Raises:
          ConfigError: there are no shards, too many are damaged, or no sample has all modalities.
        """
        self._config = config
        self.shards = expand(config.shards)
        with ThreadPoolExecutor(_THREADS) as pool:
            self._contents = list(pool.map(self._read, self.shards))
        self._check_damage()
        self._needs = config.media.needs()
        self._samples: list[tuple[str, dict[str, _Part]]] = []
        ends = []
        for contents in self._contents:
            self._samples += [sample for sample in contents.samples if self._is_complete(sample[1])]
            ends.append(len(self._samples))
        self._ends = np.asarray(ends)
        if not self._samples:
            present = sorted({p for c in self._contents for _, parts in c.samples for p in parts})
            raise ConfigError(
                f"{config.shards}: no sample has {' and '.join(config.media.modalities)}; {len(self.shards)} shards "
                f"hold {sum(len(c.samples) for c in self._contents)} samples with {', '.join(present) or 'nothing'}"
            )

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        key, parts = self._samples[index]
        shard = self.shards[int(np.searchsorted(self._ends, index, side="right"))]
        record: dict[str, Any] = {"name": f"{shard}/{key}"}
        for kind in {next(name for name in needs if name in parts): None for needs in self._needs}:
            part = parts[kind]
            path = f"{shard}/{key}.{part.suffix}"
            if part.size > files.MAX_BYTES:
                raise MediaError("large", f"{path}: larger than {files.MAX_BYTES >> 20} MiB")
            data = _bytes(shard, part)
            if len(data) < part.size:
                raise MediaError("cut", f"{path}: the tar ends before the end of the file")
            record[kind] = (
                _caption(path, part, data, self._config.caption) if is_caption(kind) else MediaFile(path, data)
            )
        return record

    def _is_complete(self, parts: Mapping[str, _Part]) -> bool:
        return all(any(name in parts for name in needs) for needs in self._needs)

    def _check_damage(self) -> None:
        """Counts one sample for each damaged shard; of one that is cut, what it lacks to the median of whole ones."""
        damaged = self._damaged()
        if not damaged:
            return
        whole = [len(c.samples) for c in self._contents if not c.cut]
        lost = sum(max(statistics.median(whole) - len(c.samples), 1) if c.cut and whole else 1 for _, c in damaged)
        total, limit = lost + sum(len(c.samples) for c in self._contents), self._config.faults.max_bad_fraction
        if lost > limit * total or (limit < 1 and not whole):
            shard, contents = damaged[0]
            raise ConfigError(
                f"data: {len(damaged)} of {len(self.shards)} shards are damaged, and more of their samples lost than "
                f"max_bad_fraction={limit:g} allows; the first, {shard}: {contents.damage}"
            )
        for shard, contents in damaged:
            _LOGGER.warning("%s: %s; its other samples are used", shard, contents.damage)

    def _damaged(self) -> list[tuple[str, "_Contents"]]:
        return [(shard, c) for shard, c in zip(self.shards, self._contents, strict=True) if c.damage]

    def notes(self) -> list[str]:
        """What is lost and what is passed over, as lines of text."""
        damaged = [f"{shard}: {contents.damage}" for shard, contents in self._damaged()]
        others = sum((Counter(c.others) for c in self._contents), Counter())
        named = ", ".join(f"{suffix} {count}" for suffix, count in others.most_common())
        return damaged + ([f"files of other kinds are passed over: {named}"] if named else [])

    def _read(self, shard: str) -> "_Contents":
        """The contents of a shard, from the index if it has them."""
        cache = None
        if self._config.index:
            name = hashlib.sha256(f"{shard} {_version(shard)}".encode()).hexdigest()[:24]
            cache = storage.as_path(self._config.index) / f"{name}.json"
            try:
                return _Contents.of_json(cache.read_text())
            except (OSError, ValueError, TypeError, AttributeError, KeyError):
                pass  # missing or damaged: scan the tar
        with storage.as_path(shard).open("rb") as stream:
            contents = _scan(shard, stream)
        if cache is not None:
            cache.parent.mkdir(parents=True, exist_ok=True)
            storage.write_text(cache, contents.to_json())
        return contents


@dataclasses.dataclass(frozen=True)
class _Contents:
    """The samples of a shard, the number of files of other kinds by suffix, and `damage` and `cut` as of a `Tar`."""

    samples: list[tuple[str, dict[str, _Part]]]
    others: dict[str, int]
    damage: str
    cut: bool

    def to_json(self) -> str:
        rows = [(k, {n: (p.suffix, p.offset, p.size) for n, p in parts.items()}) for k, parts in self.samples]
        return json.dumps({"samples": rows, "others": self.others, "damage": self.damage, "cut": self.cut})

    @classmethod
    def of_json(cls, text: str) -> "_Contents":
        tree = json.loads(text)
        samples = [
            (str(key), {str(n): _Part(str(s), int(o), int(b)) for n, (s, o, b) in parts.items()})
            for key, parts in tree["samples"]
        ]
        others = {str(suffix): int(n) for suffix, n in tree["others"].items()}
        return cls(samples, others, str(tree["damage"]), bool(tree["cut"]))


def _scan(shard: str, stream: BinaryIO) -> _Contents:
    """Reads all headers; of several files of one kind of a sample, the first suffix in `SUFFIXES` wins."""
    tar, samples, others = Tar(stream), [], Counter()
    key, parts = "", {}
    for member in tar:
        folder, _, name = member.name.rpartition("/")
        stem, dot, suffix = name.partition(".")
        if not (stem and dot):
            continue
        if (own := f"{folder}/{stem}".lstrip("/")) != key:
            key, parts = own, {}
        part = _Part(suffix.lower(), member.offset, member.size)
        kind = _KIND.get(part.suffix)
        if kind is None:
            others[part.suffix[:20]] += 1
            continue
        if not parts:
            samples.append((key, parts))
            if len(samples) > MAX_SAMPLES:
                raise ConfigError(f"{shard}: over {MAX_SAMPLES} samples in one tar")
        if kind not in parts or _rank(kind, part) < _rank(kind, parts[kind]):
            parts[kind] = part
    return _Contents(samples, dict(others), tar.damage, tar.cut)


def _rank(kind: str, part: _Part) -> int:
    return SUFFIXES[kind].index(part.suffix)


def _caption(path: str, part: _Part, data: bytes, field: str) -> Any:
    try:
        text = data.decode("utf-8-sig")
        if part.suffix == "txt":
            return text
        return json.loads(text)[field]
    except UnicodeDecodeError:
        raise MediaError("value", f"{path}: not UTF-8") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MediaError("value", f"{path}: has no field {field!r}") from None


def _version(shard: str) -> str:
    """What changes when a shard is written again."""
    if storage.is_remote(shard):
        import fsspec

        system, key = fsspec.core.url_to_fs(shard)
        info = {name.lower(): value for name, value in system.info(key).items()}
        return " ".join(str(info.get(name)) for name in ("size", "etag", "generation", "lastmodified", "updated"))
    stat = storage.as_path(shard).stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _bytes(shard: str, part: _Part) -> bytes:
    """The bytes of a part of a shard; from remote storage, only that part is fetched.

    Raises:
      MediaError: the shard is gone or cannot be read.
    """
    try:
        if storage.is_remote(shard):
            import fsspec

            system, key = fsspec.core.url_to_fs(shard)
            return system.cat_file(key, start=part.offset, end=part.offset + part.size)
        descriptor = os.open(shard, os.O_RDONLY)  # `open` takes longer than a caption
        try:
            return os.pread(descriptor, part.size, part.offset)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise MediaError("missing", f"{shard}: the shard is no longer there") from None
    except OSError as error:
        raise MediaError("missing", f"{shard}: the shard cannot be read ({error.strerror or error})") from error


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
        if not path.is_file():
            raise ConfigError(f"{pattern}: no such shard")
        return [str(path)]
    paths = sorted(str(p) for p in path.parent.glob(path.name))
    if not paths:
        raise ConfigError(f"{pattern}: no such shard")
    return paths


@register("webdataset", WebDatasetConfig)
def _webdataset_source(config: WebDatasetConfig) -> SkipBadSamples:
    return media_source(WebDataset(config), config.media, config.faults)
