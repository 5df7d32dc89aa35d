"""Tables in parquet, as Hugging Face `datasets` and img2dataset write them, read by row groups.

Columns that hold bytes (of media files) are read by row group when a row is asked for, and the last groups are kept;
all other columns are read at the start. In random order almost every sample reads a whole row group, so groups should
hold few rows: `datasets` writes 100.
"""

import bisect
import contextlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from codi_jax.config import ConfigError, first_line
from codi_jax.media.files import MediaError

MAX_BYTES = 4 << 30  # of the columns without bytes, of all files
MAX_GROUP_BYTES = 1 << 30  # of one row group, if columns with bytes are read
KEPT_BYTES = 512 << 20  # of row groups that are kept


class ParquetTable:
    """The rows of one or several parquet files with the same columns.

    Attributes:
      columns: the names of all columns.
      bytes_columns: of those that are read, the ones that hold bytes.
      group_bytes: size of the largest row group of these.

    Args:
      paths: the files.
      names: the columns to read; None for all.

    Raises:
      ConfigError: pyarrow is not installed, a file is not parquet or lacks a column, or is too large.
    """

    def __init__(self, paths: Sequence[str], names: Collection[str] | None = None):
        pyarrow = _pyarrow()[0]
        metadata = [_read(path, lambda file: (file.metadata, file.schema_arrow)) for path in paths]
        schema = metadata[0][1]
        self._path, self.columns = paths[0], set(schema.names)
        wanted = [name for name in schema.names if names is None or name in names]
        self.bytes_columns = [name for name in wanted if _holds_bytes(schema.field(name).type)]
        light = [name for name in wanted if name not in self.bytes_columns]
        self._groups: list[tuple[str, Any, int]] = []  # file, its metadata, number of the row group in it
        rows, parts, self.group_bytes = [], [schema.empty_table().select(light)], 0
        for path, (meta, own) in zip(paths, metadata, strict=True):
            if missing := [name for name in wanted if name not in own.names]:
                raise ConfigError(f"{path}: no column {missing[0]!r}, which {paths[0]} has")
            for group in range(meta.num_row_groups):
                self._check_size(path, meta, group)
                self._groups.append((path, meta, group))
                rows.append(meta.row_group(group).num_rows)
        light_bytes = 0
        for path, meta, group in self._groups if light else ():
            parts.append(_read(path, lambda file, g=group: file.read_row_group(g, columns=light), meta))
            light_bytes += parts[-1].nbytes
            if light_bytes > MAX_BYTES:
                raise ConfigError(f"{paths[0]}: columns {', '.join(light)} are larger than {MAX_BYTES >> 30} GiB")
        self._ends = list(itertools.accumulate(rows))
        with _readable(paths[0]):
            self._light = pyarrow.concat_tables(parts, promote_options="permissive").combine_chunks()
        self._lock, self._kept = threading.Lock(), OrderedDict[int, Any]()

    def _check_size(self, path: str, metadata: Any, group: int) -> None:
        if self.bytes_columns:
            # That of all columns: pyarrow ends the process on some sizes of columns that are damaged.
            size = metadata.row_group(group).total_byte_size
            self.group_bytes = max(self.group_bytes, size)
            if size > MAX_GROUP_BYTES:
                raise ConfigError(
                    f"{path}: row group {group} has {size / 2**30:.1f} GiB; write it again with row groups of at most "
                    f"{MAX_GROUP_BYTES >> 30} GiB"
                )

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row. Raises MediaError if it, or its row group, cannot be read."""
        group = bisect.bisect_right(self._ends, index)
        try:
            with _readable(self._groups[group][0]):
                row = self._light.slice(index, 1).to_pylist()[0] if self._light.num_columns else {}
                if self.bytes_columns:
                    first = self._ends[group - 1] if group else 0
                    row |= self._bytes_of(group).slice(index - first, 1).to_pylist()[0]
                return row
        except ConfigError as error:
            raise MediaError("damaged", f"row {index}: {error}") from error

    def values(self, name: str) -> list[Any]:
        """A column without bytes."""
        if name in self.bytes_columns:
            raise ConfigError(f"{self._path}: column {name!r} holds bytes, not values")
        with _readable(self._path):
            return self._light.column(name).to_pylist()

    def _bytes_of(self, group: int) -> Any:
        """The columns with bytes of a row group; one is read at a time, so that memory stays bounded."""
        with self._lock:
            if group in self._kept:
                self._kept.move_to_end(group)
                return self._kept[group]
            path, metadata, number = self._groups[group]
            table = _read(path, lambda file: file.read_row_group(number, columns=self.bytes_columns), metadata)
            self._kept[group] = table
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
            return table


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError("parquet files need pyarrow: pip install 'codi_jax[parquet]'") from error
    return pyarrow, parquet


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """The errors of pyarrow become a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except Exception as error:  # also of Python: text is decoded when it is first used
        said = first_line(error)
        raise ConfigError(f"{path}: not a readable parquet file ({said})") from error


def _read(path: str, read: Callable[[Any], Any], metadata: Any = None) -> Any:
    """What `read` takes from an open file."""
    with _readable(path), _pyarrow()[1].ParquetFile(path, metadata=metadata) as file:
        return read(file)


def _holds_bytes(kind: Any) -> bool:
    """Whether values of an Arrow type are, or contain, bytes."""
    import pyarrow.types as types

    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return is_bytes or any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
