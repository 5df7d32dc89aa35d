"""ArrayRecord files: random access to records, nested dicts of arrays, numbers, strings and bytes in Flax's msgpack.

    {"name": "arrayrecord", "path": "videos/*.arrayrecord", "media": {"modalities": ("text", "image")}}

With `media`, a record holds captions and the bytes of media files under the names of the modalities, and optionally
`start` and `duration` in seconds. Without `media`, a record is a sample.
"""

import dataclasses
import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from flax import serialization

from codi_jax.config import ConfigError, config_class, first_line
from codi_jax.data.decoded_source import KINDS, PART, TIMED, MediaConfig, is_caption, media_source
from codi_jax.data.skip_bad_samples import FaultsConfig
from codi_jax.data.source import Source, register
from codi_jax.media.files import MediaError, MediaFile


@config_class()
class ArrayRecordConfig:
    """Config of an ArrayRecord source.

    Attributes:
      path: a path or a glob pattern.
      media: see MediaConfig; None if the records are samples already.
      faults: see FaultsConfig; applies with `media` only.
    """

    path: str
    media: MediaConfig | None = None
    faults: FaultsConfig = dataclasses.field(default_factory=FaultsConfig)


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes records to a file, each in a group of its own, so that it can be read alone, and not compressed again."""
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    try:
        for record in records:
            writer.write(serialization.msgpack_serialize(dict(record)))
    finally:
        writer.close()


class ArrayRecords:
    """The records of all files that match a pattern, in the order of the file names."""

    def __init__(self, path: str):
        """Opens the files.

        Raises:
          ConfigError: no file matches, or one is not an ArrayRecord file.
        """
        paths = sorted(glob.glob(os.path.expanduser(path)))
        if not paths:
            raise ConfigError(f"{path}: no such file")
        self._path = path
        try:
            self._files = ArrayRecordDataSource(paths)
        except (ValueError, RuntimeError, OSError) as error:
            raise ConfigError(f"{path}: not ArrayRecord files ({first_line(error)})") from error

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads a record. Raises MediaError if it cannot be decoded, or is not a mapping."""
        name = f"{self._path}, record {index}"
        try:
            data = self._files[index]  # `__getitems__` starts a thread each time
            record = serialization.msgpack_restore(data)
        except Exception as error:  # decoders raise what they like: AttributeError for a dtype of no name
            raise MediaError("damaged", f"{name}: cannot be decoded ({type(error).__name__})") from error
        if not isinstance(record, dict):
            raise MediaError("value", f"{name}: not a mapping in msgpack")
        return record


class MediaRecords:
    """Records of captions and media files, for `DecodedSource`."""

    def __init__(self, config: ArrayRecordConfig):
        """Opens the files. Raises ConfigError as `ArrayRecords` does."""
        self._records, self._path = ArrayRecords(config.path), config.path

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        values = self._records[index]
        part = {name: float(values[name]) for name in PART if isinstance(values.get(name), (int, float))}
        record: dict[str, Any] = {"name": f"{self._path}, record {index}"}
        for name in KINDS:
            value = values.get(name)
            if value is None:
                continue
            if is_caption(name):
                record[name] = value
            elif isinstance(value, bytes):
                record[name] = MediaFile(f"{record['name']}, {name}", value, **(part if name in TIMED else {}))
            else:
                raise MediaError("value", f"{record['name']}: {name} is not the bytes of a file")
        return record


@register("arrayrecord", ArrayRecordConfig)
def _arrayrecord_source(config: ArrayRecordConfig) -> Source:
    if config.media is None:
        return ArrayRecords(config.path)
    return media_source(MediaRecords(config), config.media, config.faults)
