"""A table of media files (csv, tsv, jsonl, json or parquet), one sample per row.

    {"name": "manifest", "path": "videos.csv", "media": {"modalities": ("text", "video", "audio"), …}}

Columns are named as the modalities, or are mapped by `columns`: {"text": "caption", "video": "file"}. Only if they are
mapped, `start`, `end` and `duration` select a part of audio and video, in seconds (1.5), on a clock (00:01:30.5) or in
ISO 8601 (PT1M30S); what a table calls `duration` is often the length of the whole file. Paths are relative to the
table's folder, or to `root`. A caption is a string or a list of strings; in csv, a JSON list.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError, config_class
from codi_jax.data.decoded_source import KINDS, PART, TIMED, MediaConfig, is_caption, media_source
from codi_jax.data.row_index import TextTable
from codi_jax.data.skip_bad_samples import FaultsConfig, SkipBadSamples
from codi_jax.data.source import register
from codi_jax.media.files import MediaError, MediaFile

INTERVAL = (*PART, "end")  # columns that select a part of a file
FIELDS = (*KINDS, *INTERVAL)
_IN_MEMORY = (".json", ".parquet")
MAX_BYTES = 4 << 30  # of a table in memory


@config_class()
class ManifestConfig:
    """Config of a manifest source.

    Attributes:
      path: the table; its suffix is its format.
      media: see MediaConfig.
      root: folder that paths are relative to; the table's folder if empty.
      columns: modality -> the name of its column, if it differs; `start`, `duration` or `end` -> its column.
      faults: see FaultsConfig.
    """

    path: str
    media: MediaConfig
    root: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    faults: FaultsConfig = dataclasses.field(default_factory=FaultsConfig)

    def __post_init__(self):
        if unknown := [name for name in self.columns if name not in FIELDS]:
            raise ConfigError(f"manifest columns: unknown field {', '.join(unknown)}; fields are {', '.join(FIELDS)}")
        if {"duration", "end"} <= self.columns.keys():
            raise ConfigError("manifest columns: duration and end say the same; give one of them")


class Manifest:
    """The records of a manifest, for `DecodedSource`."""

    def __init__(self, config: ManifestConfig):
        """Reads the table.

        Raises:
          ConfigError: the table does not exist, cannot be parsed, has no rows, or lacks a column.
        """
        self._root = Path(config.root or Path(config.path).parent)
        rows = _READERS[_suffix(config.path)](config.path)
        present = {str(name) for index in range(min(len(rows), 1000)) for name in rows[index]}
        names = {name: name for name in KINDS} | config.columns
        for options in (*config.media.needs(), *((name,) for name in INTERVAL if name in names)):
            if len(rows) and not any(names[name] in present for name in options):
                columns = ", ".join(sorted(present))
                raise ConfigError(f"{config.path}: no column {names[options[-1]]!r}; columns are {columns}")
        if not len(rows):
            raise ConfigError(f"{config.path}: the table has no rows")
        self._rows, self._columns = rows, names

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        read = self._rows[index]
        row = {name: read[column] for name, column in self._columns.items() if column in read}
        part = {name: _seconds(row[name], name, index) for name in INTERVAL if row.get(name) not in (None, "")}
        if "end" in part:
            part["duration"] = part["end"] - part.get("start", 0.0)
        record: dict[str, Any] = {"name": f"row {index}"}
        for name in KINDS:
            value = row.get(name)
            if value is None or value == "":
                continue
            if is_caption(name):
                record[name] = _captions(value)
            elif isinstance(value, str):
                start, duration = (part.get("start", 0.0), part.get("duration")) if name in TIMED else (0.0, None)
                record[name] = MediaFile(str(self._root / value), start=start, duration=duration)
            else:
                raise MediaError("value", f"row {index}: {name} is not a path: {value!r:.80}")
        return record


def _captions(value: object) -> object:
    if isinstance(value, str) and value.startswith("["):
        try:
            listed = json.loads(value)
        except ValueError:
            return value
        return listed if isinstance(listed, list) else value
    return value


_NUMBER = r"(\d+(?:\.\d+)?)"
_CLOCK = re.compile(rf"(?:(\d+):)?(\d+):{_NUMBER}")
_ISO = re.compile(rf"PT(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?")


def _seconds(value: Any, name: str, index: int) -> float:
    try:
        text = str(value).strip()
        if (match := _CLOCK.fullmatch(text) or _ISO.fullmatch(text)) and any(match.groups()):
            hours, minutes, seconds = (float(part or 0) for part in match.groups())
            return 3600 * hours + 60 * minutes + seconds
        if math.isfinite(seconds := float(value)):
            return seconds
    except (TypeError, ValueError):
        pass
    raise MediaError("value", f"row {index}: {name} is not a time (1.5, 00:01:30.5 or PT1M30S): {value!r:.80}")


def _suffix(path: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise ConfigError(f"{path}: expected a file that ends in {', '.join(_READERS)}")
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such file")
    if suffix in _IN_MEMORY and Path(path).stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES >> 30} GiB; write it as csv or jsonl")
    return suffix


def _text(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start})") from error


def _objects(path: str, rows: Any) -> list[Mapping[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path}: not a list of objects")
    return rows


def _json(path: str) -> list[Mapping[str, Any]]:
    try:
        return _objects(path, json.loads(_text(path)))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: not JSON ({error})") from error


def _parquet(path: str) -> list[Mapping[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError("parquet manifests need pyarrow: pip install 'codi_jax[parquet]'") from error
    try:
        return parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a parquet file ({str(error).splitlines()[0]})") from error


_READERS = {
    ".csv": lambda path: TextTable(path, ","),
    ".tsv": lambda path: TextTable(path, "\t"),
    ".jsonl": TextTable,
    ".json": _json,
    ".parquet": _parquet,
}


@register("manifest", ManifestConfig)
def _manifest_source(config: ManifestConfig) -> SkipBadSamples:
    return media_source(Manifest(config), config.media, config.faults)
