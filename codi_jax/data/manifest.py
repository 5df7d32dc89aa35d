"""A table of media files, one sample per row: csv, tsv, jsonl, json, parquet, or the files of a folder.

    {"name": "manifest", "path": "videos.csv", "media": {"modalities": ("text", "video", "audio"), …}}

Columns are named as the modalities, or are mapped by `columns`: {"text": "caption", "video": "{id}.mp4"}, see
`data.columns`. Only if they are mapped, `start`, `end` and `duration` select a part of audio and video, in seconds
(1.5), on a clock (00:01:30.5) or in ISO 8601 (PT1M30S); what a table calls `duration` is often the length of the whole
file. A file is a path, relative to the table's folder or to `root`, or bytes, or {"bytes", "path"}, as Hugging Face
`datasets` writes them to parquet. A caption is a string or a list of strings; in csv, a JSON list.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError, config_class
from codi_jax.data.columns import Column, is_present, seconds
from codi_jax.data.decoded_source import KINDS, PART, TIMED, MediaConfig, is_caption, media_source
from codi_jax.data.folder import FolderTable
from codi_jax.data.parquet import ParquetTable
from codi_jax.data.skip_bad_samples import FaultsConfig, SkipBadSamples
from codi_jax.data.source import register
from codi_jax.data.tables import JoinedTable, SelectedTable, Table, read_table
from codi_jax.data.webdataset import expand
from codi_jax.media.files import MediaError, MediaFile

INTERVAL = (*PART, "end")  # columns that select a part of a file
FIELDS = (*KINDS, *INTERVAL)
LARGE_GROUP = 64 << 20  # bytes of a row group of parquet, from which on reading is slow


@config_class()
class JoinConfig:
    """A second table, whose columns are added to the rows in which it has the same key.

    Attributes:
      column: the column of the first table; empty for no second table.
      key: the column of the second table that has the same values; empty if it has the same name.
      path: the second table; empty for the file of the first.
      rows, header: see ManifestConfig.
      separator: between several keys in one value of `column`, as between the labels of AudioSet.
    """

    column: str = ""
    key: str = ""
    path: str = ""
    rows: str = ""
    header: tuple[str, ...] = ()
    separator: str = ""


@config_class()
class ManifestConfig:
    """Config of a manifest source.

    Attributes:
      path: the table, whose suffix is its format, or a folder of media files; several files between commas, in which
        {000..123} stands for a range of numbers, {a,b} for either, * for anything.
      media: see MediaConfig.
      root: folder that paths are relative to; the table's folder if empty.
      columns: modality -> its column or columns, if it has another name; `start`, `duration` or `end` -> its column.
        See `data.columns`; empty for none.
      rows: of json: the key of the list of rows; empty if the file is that list.
      header: of csv and tsv without names in the first line: the names of the columns.
      join: see JoinConfig.
      where: "COLUMN=VALUE" reads only the rows with this value, such as "split=train"; empty for all.
      faults: see FaultsConfig.
    """

    path: str
    media: MediaConfig
    root: str = ""
    columns: dict[str, str | tuple[str, ...]] = dataclasses.field(default_factory=dict)
    rows: str = ""
    header: tuple[str, ...] = ()
    join: JoinConfig = dataclasses.field(default_factory=JoinConfig)
    where: str = ""
    faults: FaultsConfig = dataclasses.field(default_factory=FaultsConfig)

    def __post_init__(self):
        if unknown := [name for name in self.columns if name not in FIELDS]:
            raise ConfigError(f"manifest columns: unknown field {', '.join(unknown)}; fields are {', '.join(FIELDS)}")
        if self.columns.get("duration") and self.columns.get("end"):
            raise ConfigError("manifest columns: duration and end say the same; give one of them")
        if self.where and "=" not in self.where:
            raise ConfigError(f"manifest where: expected COLUMN=VALUE, got {self.where!r}")
        if self.join != JoinConfig() and not self.join.column:
            raise ConfigError("manifest join: column, the column of the first table, is missing")


class Manifest:
    """The records of a manifest, for `DecodedSource`."""

    def __init__(self, config: ManifestConfig):
        """Reads the table.

        Raises:
          ConfigError: a table does not exist, cannot be parsed, has no rows, or lacks a column.
        """
        self._config = config
        needed = {name for options in config.media.needs() for name in options}
        names = {**{name: name for name in KINDS}, **config.columns}
        self._columns = {
            name: Column(spec) for name, spec in names.items() if spec and (name in needed or name in INTERVAL)
        }
        self._table = self._read()
        self._check_columns()
        if not len(self._table):
            raise ConfigError(f"{config.path}: the table has no rows" + (config.where and f" with {config.where}"))

    def _read(self) -> Table:
        config, join = self._config, self._config.join
        key, (column, _, value) = join.key or join.column, config.where.partition("=")
        read = [name for spec in self._columns.values() for name in spec.names]
        used = {*read, *(name.split("/")[0] for name in read)}  # the columns, and those in which they are nested
        names = used | {join.column, column} - {""}
        path, root = os.path.expanduser(config.path), os.path.expanduser(config.root)
        if path and Path(path).is_dir():
            self._root = Path(root or path)
            table: Table = FolderTable(path, names)
        else:
            paths = _paths(path)
            self._root = Path(root or Path(paths[0]).parent)
            table = read_table(paths, names, rows=config.rows, header=config.header)
        self._first = table
        for name in filter(None, (column, join.column)):
            self._require(name in table.columns, name, table, config.path)
        if column:
            table = SelectedTable(table, column, value)
        if not join.column:
            return table
        other = read_table(_paths(join.path or config.path), used | {key}, rows=join.rows, header=join.header)
        self._require(key in other.columns, key, other, join.path or f"{config.path}, {join.rows}")
        joined = JoinedTable(table, other, join.column, key, join.separator)
        if len(table) and not joined.matches():
            raise ConfigError(f"{config.path}: no value of {join.column!r} is a {key!r} of the second table")
        return joined

    def _check_columns(self) -> None:
        mapped = [name for name in INTERVAL if name in self._columns]
        for options in (*self._config.media.needs(), *((name,) for name in mapped)):
            columns = [self._columns[name] for name in options if name in self._columns]
            if not columns:
                raise ConfigError(f"manifest columns: none is given for {options[0]}")
            if not any(all(is_present(name, self._table.columns) for name in column.names) for column in columns):
                for name in columns[-1].names:
                    self._require(is_present(name, self._table.columns), name, self._table, self._config.path)

    @staticmethod
    def _require(present: bool, name: str, table: Table, where: str) -> None:
        if not present and len(table):
            raise ConfigError(f"{where}: no column {name!r}; columns are {', '.join(sorted(table.columns))}")

    def notes(self) -> list[str]:
        """What is passed over, as lines of text."""
        notes = []
        if isinstance(self._table, JoinedTable) and (lonely := len(self._table) - self._table.matches()):
            notes.append(f"{lonely} rows have no {self._config.join.column!r} in the second table")
        if isinstance(self._first, FolderTable) and self._first.others:
            named = ", ".join(f"{suffix} {count}" for suffix, count in self._first.others.most_common(10))
            notes.append(f"files of other kinds are passed over: {named}")
        if isinstance(self._first, ParquetTable) and self._first.group_bytes > LARGE_GROUP:
            size = self._first.group_bytes >> 20
            notes.append(f"a sample reads its row group, up to {size} MiB; with fewer rows in each it is faster")
        return notes

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._table[index]
        values = {}
        for name, column in self._columns.items():
            try:
                value = column(row)
                if value is not None and value != "":
                    values[name] = seconds(value) if name in INTERVAL else value
            except ValueError as error:
                raise MediaError("value", f"row {index}: {name}: {error}") from None
        start, duration = values.get("start", 0.0), values.get("duration")
        if "end" in values:
            duration = values["end"] - start
        record: dict[str, Any] = {"name": f"row {index}"}
        for name in KINDS:
            if name in values:
                if is_caption(name):
                    record[name] = _captions(values[name], f"row {index}: {name}")
                else:
                    part = (start, duration) if name in TIMED else (0.0, None)
                    record[name] = self._file(values[name], index, name, *part)
        return record

    def _file(self, value: Any, index: int, name: str, start: float, duration: float | None) -> MediaFile:
        if isinstance(value, list) and len(value) == 1:  # as `datasets` writes a list of images
            (value,) = value
        path, data = (value.get("path"), value.get("bytes")) if isinstance(value, dict) else (value, None)
        if isinstance(path, bytes):
            path, data = None, path
        if isinstance(data, bytes):
            return MediaFile(f"row {index}, {path or name}", data, start, duration)
        if not isinstance(path, str) or data is not None:
            raise MediaError("value", f"row {index}: {name} is neither a path nor bytes: {value!r:.80}")
        return MediaFile(str(self._root / _in_home(path)), start=start, duration=duration)


def _in_home(path: str) -> str:
    """A path with ~/ at its beginning as one from the root; any other path is itself, also of a file called ~x."""
    return os.path.expanduser(path) if path.startswith("~/") else path


def _paths(path: str) -> list[str]:
    """The files of a table; a file whose name holds a comma or braces is itself."""
    path = os.path.expanduser(path)
    return expand(path) if any(c in path for c in ",{*") and not Path(path).exists() else [path]


def _captions(value: object, where: str) -> object:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise MediaError("value", f"{where}: not UTF-8") from None
    if isinstance(value, str) and value.startswith("["):
        try:
            listed = json.loads(value)
        except ValueError:
            return value
        return listed if isinstance(listed, list) else value
    return value


@register("manifest", ManifestConfig)
def _manifest_source(config: ManifestConfig) -> SkipBadSamples:
    return media_source(Manifest(config), config.media, config.faults)
