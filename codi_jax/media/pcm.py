"""Reads WAV and FLAC with libsndfile, in a tenth of the time that FFmpeg's demuxer takes for short files.

Samples are those that FFmpeg decodes, bit for bit. A file that libsndfile does not read, or not to its end, is left to
FFmpeg, which also says what is wrong with it.
"""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np

_AVAILABLE = find_spec("soundfile") is not None
_EXACT = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"}  # not compressed, or without loss
_MAX_VALUES = 1 << 28  # samples of all channels, 1 GiB


def read_pcm(
    stream: BinaryIO, start: float, length: Callable[[int], int], wav_only: bool = False
) -> tuple[np.ndarray, int] | None:
    """Reads a part of a WAV or FLAC file.

    Args:
      stream: the file, at its beginning; its position afterwards is undefined.
      start: of the part, in seconds.
      length: from the file's samples per second, how many samples to read; the file may have fewer.
      wav_only: of WAV, which is not compressed, alone.

    Returns:
      (float32 [N, C], samples per second); None if it is another kind of file, or soundfile is not installed.
    """
    if (sound := _open(stream, wav_only)) is None:
        return None
    try:
        with sound:
            first = min(round(start * sound.samplerate), sound.frames)
            count = min(length(sound.samplerate), sound.frames - first)
            if count * sound.channels > _MAX_VALUES:
                return None
            sound.seek(first)
            samples = sound.read(count, dtype="float32", always_2d=True)
            return (samples, sound.samplerate) if len(samples) == count else None
    except (RuntimeError, OSError, ValueError, MemoryError):
        return None


def pcm_seconds(stream: BinaryIO) -> float | None:
    """The length of a WAV or FLAC file in seconds; None as of `read_pcm`."""
    if (sound := _open(stream)) is None:
        return None
    with sound:
        return sound.frames / sound.samplerate


def _open(stream: BinaryIO, wav_only: bool = False) -> Any:
    """The file as a SoundFile; None if it is another kind of file, or damaged."""
    head = stream.read(12)
    is_wav = head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE"
    if not _AVAILABLE or not (is_wav or (head[:4] == b"fLaC" and not wav_only)):
        return None
    stream.seek(0)
    try:
        sound = importlib.import_module("soundfile").SoundFile(stream)
    except (RuntimeError, OSError, ValueError):  # soundfile's own errors are RuntimeErrors
        return None
    if sound.subtype in _EXACT and sound.samplerate > 0:
        return sound
    sound.close()
    return None
