"""ArrayRecord files: records by index, each a nested dict of arrays, numbers, strings, bytes in msgpack (as in flax).

    {"name": "arrayrecord", "path": "clips/*.arrayrecord", "media": {"modalities": ("text", "image")}}

With `media`, a record holds captions and the bytes of media files, under the names of the modalities (and `start` and
`duration`, in seconds); without, it is a sample as it is.
"""

import dataclasses
import glob
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgpack
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from flax import serialization

from codi_jax.config import ConfigError
from codi_jax.data.decoded_source import KINDS, PART, TIMED, MediaConfig, is_caption
from codi_jax.data.files import MediaError, MediaFile
from codi_jax.data.skip_bad_samples import FaultsConfig


@dataclasses.dataclass(frozen=True)
class ArrayRecordConfig:
    """Files of records.

    Attributes:
      path: of a file, with * for anything.
      media: see MediaConfig; None for samples as they are.
      faults: see FaultsConfig, for media.
    """

    path: str
    media: MediaConfig | None = None
    faults: FaultsConfig = dataclasses.field(default_factory=FaultsConfig)


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes records to a file, each by itself, so that any is read without its neighbours."""
    writer = ArrayRecordWriter(str(path), "group_size:1")
    try:
        for record in records:
            writer.write(serialization.msgpack_serialize(dict(record)))
    finally:
        writer.close()


class ArrayRecords:
    """Records of files, in the order of their names."""

    def __init__(self, path: str):
        """Opens them.

        Raises:
          ConfigError: there are none, or one is no ArrayRecord file.
        """
        found = sorted(glob.glob(path))
        if not found:
            raise ConfigError(f"{path}: no file is called so")
        self._path = path
        try:
            self._files = ArrayRecordDataSource(found)
        except (ValueError, RuntimeError, OSError) as error:
            raise ConfigError(f"{path}: not ArrayRecord files ({str(error).splitlines()[0]})") from error

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Raises MediaError for what is no record."""
        try:
            (data,) = self._files.__getitems__([index])
            record = serialization.msgpack_restore(data)
            if isinstance(record, dict):
                return record
        except (ValueError, RuntimeError, TypeError, KeyError, IndexError, msgpack.exceptions.UnpackException):
            pass
        raise MediaError("unreadable", f"{self._path}, record {index}: not a mapping in msgpack")


class MediaRecords:
    """Records of captions and of the bytes of media files."""

    def __init__(self, config: ArrayRecordConfig):
        """Opens the files; raises ConfigError as ArrayRecords does."""
        self._records, self._path = ArrayRecords(config.path), config.path

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        given = self._records[index]
        part = {name: float(given[name]) for name in PART if isinstance(given.get(name), (int, float))}
        record: dict[str, Any] = {"name": f"{self._path}, record {index}"}
        for name in KINDS:
            value = given.get(name)
            if value is None:
                continue
            if is_caption(name):
                record[name] = value
            elif isinstance(value, bytes):
                record[name] = MediaFile(f"{record['name']}, {name}", value, **(part if name in TIMED else {}))
            else:
                raise MediaError("unreadable", f"{record['name']}: {name} is not the bytes of a file")
        return record
