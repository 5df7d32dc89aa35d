"""Tables of rows: csv, tsv, jsonl, json, parquet, or the files of a folder; a second one joined by a key."""

import bisect
import itertools
import json
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

from codi_jax.config import ConfigError
from codi_jax.data.columns import as_list, value_of
from codi_jax.data.parquet import ParquetTable
from codi_jax.data.row_index import TextTable

MAX_BYTES = 4 << 30  # of a table that is read into memory
Row = Mapping[str, Any]


class Table(Protocol):
    """Rows by index."""

    @property
    def columns(self) -> Set[str]:
        """The names of the columns."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Row: ...

    def values(self, name: str) -> list[Any]:
        """A column of all rows."""
        ...


class MemoryTable:
    """Rows in memory, of which the named columns are kept.

    Args:
      rows: the rows.
      names: the columns to keep; None for all.
    """

    def __init__(self, rows: Sequence[Row], names: Collection[str] | None = None):
        self.columns = {str(name) for row in rows[:1000] for name in row}
        self._rows = rows if names is None else [{k: row[k] for k in names if k in row} for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self._rows[index]

    def values(self, name: str) -> list[Any]:
        """A column; None where a row has no value."""
        return [row.get(name) for row in self._rows]


class TablesInOrder:
    """The rows of several tables, one after the other."""

    def __init__(self, tables: Sequence[Table]):
        self._tables, self.columns = tables, set().union(*(table.columns for table in tables))
        self._ends = list(itertools.accumulate(map(len, tables)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Row:
        number = bisect.bisect_right(self._ends, index)
        return self._tables[number][index - (self._ends[number - 1] if number else 0)]

    def values(self, name: str) -> list[Any]:
        """A column of all rows."""
        return [value for table in self._tables for value in table.values(name)]


class SelectedTable:
    """The rows of a table whose column has a value, compared as text."""

    def __init__(self, table: Table, column: str, value: str):
        self._table, self.columns = table, table.columns
        self._indices = [i for i, found in enumerate(table.values(column)) if str(found) == value]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Row:
        return self._table[self._indices[index]]

    def values(self, name: str) -> list[Any]:
        """A column of the selected rows."""
        values = self._table.values(name)
        return [values[i] for i in self._indices]


class JoinedTable:
    """The rows of a table with the columns of another one, in which a key has the value of a column.

    The column of several matching rows is a list of their values. Columns of the first table hide those of the second.

    Args:
      table, other: the first and the second table.
      column: of the first one.
      key: the column of the second one that is compared with it, as text.
      separator: between several keys in one value of `column`; empty if there is one.
    """

    def __init__(self, table: Table, other: Table, column: str, key: str, separator: str = ""):
        self._table, self._other, self._column, self._separator = table, other, column, separator
        self.columns = table.columns | other.columns
        self._added = sorted(other.columns - table.columns)
        self._index: dict[str, list[int]] = {}
        for i, value in enumerate(other.values(key)):
            self._index.setdefault(str(value), []).append(i)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Row:
        row = self._table[index]
        matches = [self._other[i] for key in self._keys(row.get(self._column)) for i in self._index.get(key, ())]
        joined = {name: [x for match in matches for x in as_list(match.get(name))] for name in self._added}
        return {**{name: x[0] if len(x) == 1 else x for name, x in joined.items() if x}, **row}

    def values(self, name: str) -> list[Any]:
        """A column of the first table."""
        return self._table.values(name)

    def matches(self) -> int:
        """The number of rows that have a match."""
        keys = map(self._keys, self._table.values(self._column))
        return sum(any(key in self._index for key in each) for each in keys)

    def _keys(self, value: Any) -> list[str]:
        keys = str(value).split(self._separator) if self._separator else map(str, as_list(value))
        return [key.strip() for key in keys]


def read_table(
    paths: Sequence[str], names: Collection[str] | None = None, *, rows: str = "", header: Sequence[str] = ()
) -> Table:
    """Reads one table from files of one format.

    Args:
      paths: the files; their suffix is the format.
      names: the columns to read; None for all.
      rows: of json: the key of the list of rows, with "/" for nesting; empty if the file is that list.
      header: of csv and tsv without names in the first line: the names of the columns. Lines at the beginning of the
        file that begin with # are skipped then.

    Raises:
      ConfigError: a file does not exist, is too large, or is no table of this format.
    """
    suffixes = {_suffix(path) for path in paths}
    if len(suffixes) > 1:
        raise ConfigError(f"{', '.join(sorted(suffixes))}: a table of several files has one format")
    (suffix,) = suffixes
    if header and suffix not in DELIMITERS:
        raise ConfigError(f"{paths[0]}: header names the columns of csv and tsv only")
    if rows and suffix != ".json":
        raise ConfigError(f"{paths[0]}: rows names a list of json only")
    if suffix == ".parquet":
        return ParquetTable(paths, names)
    if suffix == ".json":
        return MemoryTable([row for path in paths for row in _json(path, rows)], names)
    tables = [TextTable(path, DELIMITERS.get(suffix, ""), header) for path in paths]
    return tables[0] if len(tables) == 1 else TablesInOrder(tables)


def _suffix(path: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}, or a folder")
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such file")
    return suffix


def _text(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start})") from error


def _objects(path: str, tree: Any, advice: str = "") -> list[Row]:
    if not isinstance(tree, list) or not all(isinstance(row, dict) for row in tree):
        raise ConfigError(f"{path}: not a list of objects{advice}")
    return tree


def _json(path: str, rows: str) -> list[Row]:
    tree = read_json(path)
    if not rows:
        lists = lists_of(tree)
        return _objects(path, tree, f"; rows names one of its lists: {', '.join(lists)}" if lists else "")
    found = value_of(tree, rows) if isinstance(tree, dict) else None
    if found is None:
        raise ConfigError(f"{path}: no list {rows!r}; its lists are {', '.join(lists_of(tree)) or 'none'}")
    return _objects(f"{path}, {rows}", found)


def read_json(path: str) -> Any:
    """The contents of a json file; those of one object per line are a list.

    Raises:
      ConfigError: it is not JSON, or too large.
    """
    if Path(path).stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES >> 30} GiB; write it as csv or jsonl")
    text = _text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            lines = TextTable(path)
            return [lines[index] for index in range(len(lines))]
        raise ConfigError(f"{path}: not JSON ({error})") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not JSON ({error})") from error


def lists_of(tree: Any) -> list[str]:
    """The keys of a JSON object whose values are lists of objects."""
    if not isinstance(tree, dict):
        return []
    lists = {key: value for key, value in tree.items() if isinstance(value, list) and value}
    return [key for key, value in lists.items() if all(isinstance(row, dict) for row in value)]


DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*DELIMITERS, ".jsonl", ".json", ".parquet")
