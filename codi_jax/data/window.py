"""A random window of time of a record: one start for all of its audio and video, which stay in step.

    start ~ U(0, max(0, shortest file − longest read))

in seconds, the lengths of the record's files and of what is read of them.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from codi_jax.media import arrays
from codi_jax.media.files import MediaFile


def random_window(
    record: Mapping[str, Any], fields: Collection[str], length: float, seed: tuple[int, ...], reader: Any
) -> Mapping[str, Any]:
    """The record with its audio and video from a random start on.

    Args:
      record: fields of MediaFile, Audio or Frames, and others.
      fields: the names of those that are cut.
      length: what is read of them, in seconds; a shorter record is read from its beginning.
      seed: of the start.
      reader: its `seconds` is `files.seconds`.

    Raises:
      MediaError: a file cannot be used.
    """
    rest = min((_seconds(record[name], reader) for name in fields), default=0.0) - length
    if rest <= 0:
        return record
    start = rest * np.random.default_rng(seed).random()
    return {**record, **{name: _from_second(record[name], start) for name in fields}}


def _seconds(value: Any, reader: Any) -> float:
    return reader.seconds(value) if isinstance(value, MediaFile) else arrays.seconds(value)


def _from_second(value: Any, start: float) -> Any:
    if not isinstance(value, MediaFile):
        return arrays.from_second(value, start)
    duration = None if value.duration is None else value.duration - start
    return dataclasses.replace(value, start=value.start + start, duration=duration)
