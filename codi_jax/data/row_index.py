"""Tables of text (csv, tsv, jsonl) whose rows are parsed when they are read: 8 bytes a row.

    starts [n + 1], uint64    where each row begins, and the size of the file

The first opening reads and checks the whole table. For a table of more than `MIN_CACHED` bytes the starts are kept in
the user's cache, as long as its path, size and time are the same, and are mapped into memory, so processes share them.
"""

import csv
import hashlib
import io
import itertools
import json
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.media.files import MediaError

MIN_CACHED = 16 << 20
TAB = "\t"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


class TextTable:
    """The rows of a table as mappings.

    Args:
      path: the file.
      delimiter: of a csv; empty for a JSON object per line.
      header: the names of the columns of a csv whose first row does not have them; lines before its first row that
        begin with # are skipped then.

    Raises:
      ConfigError: it is not UTF-8, or not such a table.
    """

    def __init__(self, path: str, delimiter: str = "", header: Sequence[str] = ()):
        self._path, self._delimiter = path, delimiter
        self._header, self._headless, self._comments = list(header), bool(header), 0
        with open(path, "rb") as file:
            if header:
                lines = (line for _, line in _lines(path, file, True))
                self._comments = sum(1 for _ in itertools.takewhile(lambda line: line.startswith("#"), lines))
            elif delimiter:
                self._header = [name.strip() for name in next((row for _, row in self._csv(file)), [])]
        self._starts = self._cached()

    @property
    def columns(self) -> Set[str]:
        """The names of the columns; without a header, those of the first thousand rows."""
        if self._delimiter:
            return set(self._header)
        return {str(name) for index in range(min(len(self), 1000)) for name in self[index]}

    def values(self, name: str) -> list[Any]:
        """A column of all rows; None where a row has no value."""
        with open(self._path, "rb") as file:
            if not self._delimiter:
                return [json.loads(line).get(name) for _, line in _lines(self._path, file, False) if line.strip()]
            column = self._header.index(name) if name in self._header else -1
            rows = self._csv(file)
            if not self._headless:
                next(rows, None)
            return [row[column] if column >= 0 else None for _, row in rows]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """A row. Raises MediaError if the table has been changed since it was opened."""
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
            try:
                text = os.pread(descriptor, end - start, start).decode("utf-8-sig")
            finally:
                os.close(descriptor)
            if self._delimiter:
                values = next(self._reader(io.StringIO(text, newline="")))
                row = dict(zip(self._header, values, strict=True))
            else:
                row = json.loads(text)
            if isinstance(row, dict):
                return row
        except (OSError, ValueError, csv.Error, StopIteration, RecursionError):
            pass
        raise MediaError("damaged", f"{self._path}: row {index} is not what it was when the table was opened")

    def _reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return separated(lines, self._delimiter, strict=True)

    def _cached(self) -> np.ndarray:
        stat = os.stat(self._path)
        folder = storage.cache_folder("rows") if stat.st_size > MIN_CACHED else None
        if folder is None:
            return np.asarray(self._scan())
        said = f"{os.path.abspath(self._path)} {stat.st_size} {stat.st_mtime_ns} {self._delimiter} {self._headless}"
        said += " rows are lines" * (self._delimiter == TAB)
        file = folder / f"{hashlib.sha256(said.encode()).hexdigest()[:24]}.npy"
        if (starts := _load(file, stat.st_size)) is not None:
            return starts
        scanned = np.asarray(self._scan())
        with storage.atomic_write(file, shared=True) as temporary:
            np.save(temporary, scanned, allow_pickle=False)
        starts = _load(file, stat.st_size)  # mapped into memory
        return scanned if starts is None else starts

    def _scan(self) -> array:
        """The starts of all rows, which are checked."""
        starts, end = array("Q"), 0
        with open(self._path, "rb") as file:
            if self._delimiter:
                for number, (start, row) in enumerate(self._csv(file), 1 + self._comments):
                    if len(row) != len(self._header):
                        raise ConfigError(
                            f"{self._path}: row {number} has a different number of columns than the header"
                            + "; in a tsv, a row is a line" * (self._delimiter == TAB)
                        )
                    if number > 1 or self._headless:
                        starts.append(start)
            else:
                for number, (following, line) in enumerate(_lines(self._path, file, False), 1):
                    if line.strip():
                        self._check_object(line, number)
                        starts.append(end)
                    end = following
            end = file.seek(0, os.SEEK_END)
        starts.append(end)
        return starts

    def _csv(self, file: BinaryIO) -> Iterator[tuple[int, list[str]]]:
        """The rows that are not empty, and where each begins."""
        start, end, rows = 0, 0, 0

        def lines() -> Iterator[str]:  # the reader takes as many as a row has
            nonlocal start, end
            for number, (following, line) in enumerate(_lines(self._path, file, True)):
                end = following
                if number < self._comments:
                    start = end
                else:
                    yield line

        try:
            for row in self._reader(lines()):
                if row:
                    rows += 1
                    yield start, row
                start = end
        except csv.Error as error:
            where = f"{self._path}: row {1 + self._comments + rows}"
            said = "a quote does not end" if "end of data" in str(error) else str(error)
            raise ConfigError(f"{where} is no row of a table ({said})") from error

    def _check_object(self, line: str, number: int) -> None:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{self._path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{self._path}: not a list of objects")


def separated(lines: Iterable[str], delimiter: str, strict: bool = False) -> Iterator[list[str]]:
    """The rows of a csv, or of a tsv if the delimiter is a tab.

    A row of a tsv is a line, and a quote in it means nothing, since captions begin with quotes. Only a field that is
    quoted as writers of csv do it, from its beginning to its end with each quote inside twice, loses these.

    Raises:
      csv.Error: a row is none, if `strict`.
    """
    if delimiter != TAB:
        yield from csv.reader(lines, delimiter=delimiter, strict=strict, skipinitialspace=True)
        return
    for row in csv.reader(lines, delimiter=TAB, quoting=csv.QUOTE_NONE, strict=strict, skipinitialspace=True):
        yield [x[1:-1].replace('""', '"') if x[:1] == '"' and _QUOTED.fullmatch(x) else x for x in row]


def _lines(path: str, file: BinaryIO, carriage_returns: bool) -> Iterator[tuple[int, str]]:
    """The lines of a file, which \\n ends, or \\r and \\r\\n, too; and the byte behind each."""
    end = 0
    for part in file:
        split = carriage_returns and b"\r" in part
        for line in filter(None, re.split(rb"(?<=\r)(?!\n)", part) if split else (part,)):
            start, end = end, end + len(line)
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise ConfigError(f"{path}: not UTF-8 (byte {start + error.start})") from error
            yield end, text if start else text.removeprefix("\ufeff")


def _load(file: Path, size: int) -> np.ndarray | None:
    """The starts in a file of the cache; None if it has none for a table of this size."""
    try:
        starts = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception:  # numpy parses the header as Python and raises what it likes: tokenize.TokenError
        return None
    right = starts.ndim == 1 and starts.dtype == np.uint64 and len(starts) and int(starts[-1]) == size
    return starts if right else None
