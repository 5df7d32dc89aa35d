"""Recognizes the data set at a path: the config of the source that reads it.

a tar, or a folder of tars          webdataset
csv, tsv, jsonl, json, parquet      manifest; the column of captions is known by its name or its words, that of
                                    files by what is in it, or files are named after columns
a folder of parquet files           manifest
a folder with one table             manifest, of this table
a folder of media files             manifest; captions are KEY.txt or KEY.json beside KEY.jpg
"""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.data import shard_index, tables, webdataset
from codi_jax.data.decoded_source import KINDS, DecodedSource
from codi_jax.data.folder import MAX_SIDECAR, FolderTable
from codi_jax.data.parquet import ParquetTable
from codi_jax.data.skip_bad_samples import SkipBadSamples
from codi_jax.data.source import make_source
from codi_jax.data.table_columns import (
    AUDIO,
    CAPTION,
    CAPTION_COLUMNS,
    VIDEO,
    caption_column,
    describe_splits,
    file_columns,
)
from codi_jax.data.table_layouts import open_table
from codi_jax.data.tar import COMPRESSED
from codi_jax.media.files import MediaError
from codi_jax.media.metadata import probe

_SAMPLED = 500  # rows of a table
_PROBED = 3  # samples whose videos are asked for a soundtrack


@dataclasses.dataclass(frozen=True)
class Recognized:
    """What a path holds.

    Attributes:
      what: in words.
      config: of the source that reads it, see `make_source`.
      notes: what else the reader should know, as lines of text.
    """

    what: str
    config: dict[str, Any]
    notes: list[str]


def recognize(path: str) -> Recognized:
    """Recognizes what a path holds.

    Raises:
      ConfigError: there is no such path, or it holds nothing that a source reads.
    """
    where = Path(os.path.expanduser(path))
    if where.is_dir():
        found = _folder(where)
    elif where.name.lower().endswith((".tar", *COMPRESSED)) and where.is_file():
        found = _shards(str(where), [where])
    elif where.is_file():
        found = _table([str(where)], str(where))
    else:
        raise ConfigError(f"{path}: no such file or folder")
    return _with_soundtrack(found)


def _folder(folder: Path) -> Recognized:
    for depth in ("", "*/"):
        if tars := sorted(folder.glob(f"{depth}*.tar")):
            return _shards(f"{tars[0].parent}/*.tar", [t for t in tars if t.parent == tars[0].parent])
    named = [folder / f"metadata{suffix}" for suffix in tables.SUFFIXES]
    if metadata := [str(path) for path in named if path.is_file()]:
        return _table(metadata[:1], metadata[0])
    table = FolderTable(str(folder))
    for depth in ("", "data/", "*/"):
        parquet = sorted(folder.glob(f"{depth}*.parquet"))
        # Without media inside, and beside media, it is the metadata of img2dataset.
        if parquet and (not len(table) or ParquetTable([str(parquet[0])]).bytes_columns):
            return _parquet(parquet)
    keys = {f"{key}.json" for key in table.values("key")}
    candidates = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in tables.SUFFIXES[:-1] and path.name not in keys and "_stats." not in path.name
    ]
    if len(candidates) > 1:
        names = ", ".join(p.name for p in candidates[:5])
        raise ConfigError(f"{folder}: {len(candidates)} tables ({names}); give one of them instead of the folder")
    if candidates:
        return _table([str(candidates[0])], str(candidates[0]))
    return _media_folder(folder, table)


def _parquet(paths: Sequence[Path]) -> Recognized:
    """The files of one split, as `datasets` names them: SPLIT-00000-of-00003.parquet."""
    folder = paths[0].parent
    splits = Counter(path.name.split("-")[0] for path in paths if path.parent == folder and "-of-" in path.name)
    if not splits:
        return _table([str(path) for path in paths if path.parent == folder], f"{folder}/*.parquet")
    split = next((name for name in splits if name == "train"), next(iter(splits)))
    chosen = [str(path) for path in sorted(folder.glob(f"{split}-*.parquet"))]
    found = _table(chosen, f"{folder}/{split}-*.parquet")
    others = [f"other splits: {', '.join(name for name in splits if name != split)}"] if len(splits) > 1 else []
    return dataclasses.replace(found, notes=[*found.notes, *others])


def _table(paths: Sequence[str], pattern: str) -> Recognized:
    table, options = open_table(paths)
    names = ", ".join(sorted(table.columns))
    if not len(table):
        raise ConfigError(f"{pattern}: the table has no rows; columns are {names}")
    rows = _sample(table, paths)
    root, columns = file_columns(rows, Path(paths[0]).parent)
    caption = caption_column(rows, table.columns, columns)
    notes = describe_splits(table)
    if caption:
        columns = {CAPTION: caption, **columns}
    modalities = tuple(name for name in KINDS if name in columns)
    if not modalities:
        raise ConfigError(f"{pattern}: no column of captions, of media files, or that names files; columns are {names}")
    if modalities == (CAPTION,):
        notes.append(f"no media files: none beside {pattern} is named in the table or after a column")
    config: dict[str, Any] = {"name": "manifest", "path": pattern}
    if root is not None and root != Path(paths[0]).parent:
        config["root"] = str(root)
    config |= options
    if renamed := {name: column for name, column in columns.items() if name != column}:
        config["columns"] = renamed
    config["media"] = {"modalities": modalities}
    return Recognized(f"a table of {len(table)} rows with columns {names}", config, notes)


def _sample(table: tables.Table, paths: Sequence[str]) -> list[tables.Row]:
    """The first rows; the bytes of media files of the very first only."""
    first = table[0] if len(table) else {}
    if isinstance(table, ParquetTable) and table.bytes_columns:
        table = ParquetTable(paths, table.columns.difference(table.bytes_columns))
    return [first, *(table[i] for i in range(1, min(len(table), _SAMPLED)))]


def _shards(pattern: str, paths: Sequence[Path]) -> Recognized:
    with paths[0].open("rb") as stream:
        contents = shard_index.scan(str(paths[0]), stream)
    counts = Counter[str]()
    for kinds, count in contents.sets.items():
        counts.update(dict.fromkeys(kinds.split("+"), count))
    config: dict[str, Any] = {"name": "webdataset", "shards": pattern}
    captions = (part for row in range(contents.samples) if (part := contents.part(row, CAPTION)) is not None)
    if (first := next(captions, None)) is not None and first.suffix == "json":
        with paths[0].open("rb") as stream:
            stream.seek(first.offset)
            key = _caption_key(stream.read(min(first.size, MAX_SIDECAR)))
        if key is None:
            del counts[CAPTION]
        elif key != webdataset.WebDatasetConfig.caption:
            config["caption"] = key
    modalities = tuple(name for name in KINDS if counts[name] * 2 >= max(counts.values(), default=0) and counts[name])
    if not modalities:
        others = ", ".join(contents.others) or "no files"
        raise ConfigError(f"{paths[0]}: no captions and no media files ({others}) {contents.damage}".strip())
    config["media"] = {"modalities": modalities}
    what = f"{len(paths)} WebDataset shard{'s' * (len(paths) > 1)}"
    return Recognized(what, config, [])


def _caption_key(data: bytes) -> str | None:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return None
    keys = (key for key in CAPTION_COLUMNS if isinstance(tree, dict) and isinstance(tree.get(key), (str, list)))
    return next(keys, None)


def _media_folder(folder: Path, table: FolderTable) -> Recognized:
    if not len(table):
        if packed := [path for path in sorted(folder.rglob("*")) if path.name.lower().endswith(COMPRESSED)]:
            return _shards(str(packed[0]), packed)  # which says how they are unpacked
        others = ", ".join(f"{suffix} {n}" for suffix, n in table.others.most_common(5)) or "no files"
        raise ConfigError(f"{folder}: no tars, tables or media files in this folder ({others})")
    counts = {name: sum(value is not None for value in table.values(name)) for name in (*KINDS, "json")}
    most = max(counts[name] for name in KINDS)
    present = [name for name in KINDS if counts[name] * 2 >= most]
    config: dict[str, Any] = {"name": "manifest", "path": str(folder)}
    notes = []
    if CAPTION not in present and counts["json"] * 2 >= most:
        first = next(value for value in table.values("json") if value is not None)
        with (folder / first).open("rb") as stream:
            key = _caption_key(stream.read(MAX_SIDECAR))
        if key:
            config["columns"] = {CAPTION: f"json/{key}"}
            present.insert(0, CAPTION)
    if CAPTION not in present:
        notes.append("no captions: no KEY.txt or KEY.json beside the media files KEY.*")
        below = [p for p in sorted(folder.glob("*/*")) if p.suffix.lower() in tables.SUFFIXES]
        if below:
            notes.append(f"tables: {', '.join(map(str, below[:5]))}; inspect one of them")
        elif classes := sorted({str(name) for name in table.values("folder")} - {"", "None"}):
            example = {CAPTION: "a photo of {folder}"}
            notes.append(
                f"folders: {', '.join(classes[:5])}; if they are classes, {CAPTION!r} in modalities and 'columns': "
                f"{example} make captions of them"
            )
    config["media"] = {"modalities": tuple(present)}
    return Recognized(f"a folder of {len(table)} samples", config, notes)


def _with_soundtrack(found: Recognized) -> Recognized:
    """With audio among the modalities, if there are videos without audio files, and they have a soundtrack."""
    modalities = found.config["media"]["modalities"]
    if VIDEO not in modalities or AUDIO in modalities:
        return found
    try:
        source = make_source({**found.config, "faults": {"max_bad_fraction": 1.0}})
        assert isinstance(source, SkipBadSamples) and isinstance(source.source, DecodedSource)
        records = [source.source.record(i) for i in range(min(_PROBED, len(source)))]
        if not all("samples a second" in probe(record[VIDEO]) for record in records):
            return found
    except (MediaError, KeyError):
        return found
    media = {"modalities": tuple(name for name in KINDS if name in (*modalities, AUDIO))}
    return dataclasses.replace(found, config={**found.config, "media": media})
