"""Guesses how a table is read: its header, its list of rows, and the second table that its keys refer to."""

import csv
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.data.folder import KIND
from codi_jax.data.row_index import separated
from codi_jax.data.table_columns import CAPTION_COLUMNS
from codi_jax.data.tables import DELIMITERS, JoinedTable, Table, lists_of, read_json, read_table

_LOOKED_AT = 200  # rows
_SPLITS = {"train", "val", "valid", "validate", "validation", "dev", "test", "eval"}
_LABEL = re.compile(r"/[mt]/\w+(,\s*/[mt]/\w+)*")  # of AudioSet's ontology
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def open_table(paths: Sequence[str]) -> tuple[Table, dict[str, Any]]:
    """The table, and the fields of `ManifestConfig` by which it is read so: some of rows, header and join.

    Raises:
      ConfigError: see `read_table`.
    """
    suffix = Path(paths[0]).suffix.lower()
    options: dict[str, Any] = {}
    join: dict[str, str] = {}
    if suffix in DELIMITERS and (header := _header(paths[0], DELIMITERS[suffix])):
        options["header"] = header
    if suffix == ".json":
        tree = read_json(paths[0])
        lists = lists_of(tree)
        if len(lists) > 1:
            options["rows"], join = _related_lists(tree, lists)
        elif lists:
            options["rows"] = lists[0]
    table = read_table(paths, **options)
    if not join:
        join = _labels(table, Path(paths[0]).parent)
    if not join:
        return table, options
    other = read_table([join.get("path", paths[0])], rows=join.get("rows", ""))
    joined = JoinedTable(table, other, join["column"], join.get("key", join["column"]), join.get("separator", ""))
    return joined, {**options, "join": join}


def _header(path: str, delimiter: str) -> tuple[str, ...]:
    """The names of the columns if the first line does not give them; empty if it does.

    They are in the last of the lines that begin with #, or are guessed from the values.
    """
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as stream:
        lines = [line[:10_000] for line in itertools.islice(stream, _LOOKED_AT)]
    comments = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    try:
        rows = list(separated(lines[len(comments) :], delimiter))
    except csv.Error:
        return ()
    rows = [row for row in rows if row]
    if not rows:
        return ()
    if comments:
        names = [name.strip() for name in comments[-1].lstrip("# ").split(delimiter)]
        if len(names) == len(rows[0]):
            return tuple(names)
    if not comments and not any(_NUMBER.fullmatch(x) or Path(x).suffix[1:].lower() in KIND for x in rows[0]):
        return ()
    guessed = [_name(i, [row[i] for row in rows if len(row) > i]) for i in range(len(rows[0]))]
    return tuple(name if guessed.index(name) == i else f"column_{i + 1}" for i, name in enumerate(guessed))


def _name(index: int, values: Sequence[str]) -> str:
    if all(re.fullmatch(r"[\w-]{11}", x) for x in values) and any(re.search(r"[\dA-Z_-]", x) for x in values):
        return "youtube_id"
    if all(_NUMBER.fullmatch(x) for x in values):
        return "start"
    return "split" if set(values) <= _SPLITS else f"column_{index + 1}"


def _related_lists(tree: Mapping[str, list[Mapping[str, Any]]], lists: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Of several lists in a json file, that of files, and the join with that of captions, as in COCO and MSR-VTT."""

    def rank(name: str) -> int:
        keys = [i for i, key in enumerate(CAPTION_COLUMNS) if key in tree[name][0]]
        return min(keys, default=len(CAPTION_COLUMNS))

    captions = min(lists, key=rank)
    keys = {name: {str(row.get(name)) for row in tree[captions][:_LOOKED_AT]} for name in tree[captions][0]}
    for rows in lists:
        if rows == captions:
            continue
        for column, key in _pairs(rows, tree[rows][0], keys):
            values = [str(row.get(column)) for row in tree[rows]]
            if keys[key] <= set(values) and len(values) == len(set(values)):
                join = {"rows": captions, "column": column}
                return rows, join if key == column else {**join, "key": key}
    return captions, {}


def _pairs(rows: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Pairs of columns that may have the same values, likely ones first: equal names, then id and image_id."""
    yield from ((key, key) for key in second if key in first and key.endswith("_id"))
    if "id" in first:
        keys = [key for key in second if key.endswith("_id")]
        yield from (("id", key) for key in sorted(keys, key=lambda key: not rows.startswith(key.removesuffix("_id"))))
    yield from ((key, key) for key in second if key in first and not key.endswith("_id"))


def _labels(table: Table, folder: Path) -> dict[str, str]:
    """The join of AudioSet's codes of labels with their names, if the table of names is beside the table."""
    rows = [table[i] for i in range(min(len(table), 5))]
    for name in rows[0] if rows else ():
        if all(isinstance(row.get(name), str) and _LABEL.fullmatch(row[name]) for row in rows):
            for path in sorted(folder.glob("*class_labels*.csv")):
                try:
                    columns = read_table([str(path)]).columns
                except ConfigError:
                    continue
                if {"mid", "display_name"} <= columns:
                    return {"path": str(path), "column": name, "key": "mid", "separator": ","}
    return {}
