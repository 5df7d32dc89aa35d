"""Sound and video files, read and written by PyAV (FFmpeg inside its wheel; extra `media`).

A file comes from outside, so its size is bounded before and while it is decoded, and whatever FFmpeg finds wrong with
it is one line.
"""

import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.data.pictures import square

FULL = 1 << 15  # int16 of full scale
MAX_BYTES = 1 << 30
MAX_PIXELS = 64 << 20  # of a frame
MAX_FRAMES = 10_000  # decoded of one file

Shape = Callable[[Image.Image], np.ndarray]  # a frame to uint8 [size, size, 3]


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ConfigError("sound and video files need PyAV: pip install 'codi_jax[media]'") from error
    av.logging.set_level(None)  # what FFmpeg has to say comes as an exception
    return av


@contextmanager
def _opened(path: Any, what: str, streams_of: Callable[[Any], Sequence[Any]]) -> Iterator[tuple[Any, Any]]:
    """(container, the first of its streams that are asked for); errors of FFmpeg become a ConfigError."""
    av, path = _av(), Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such {what}")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
    try:
        # Handed over opened, and with no protocol allowed, so that a playlist opens nothing.
        with path.open("rb") as file, av.open(file, options={"protocol_whitelist": "none"}) as container:
            streams = streams_of(container)
            if not streams:
                raise ConfigError(f"{path}: not a {what}, but one of another kind")
            yield container, streams[0]
    except (av.FFmpegError, OSError, ValueError, UnicodeError, MemoryError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: not a readable {what} ({type(error).__name__})") from error


def read_video(path: Any, frames: int, rate: float, size: int, shape: Shape | None = None) -> np.ndarray:
    """The beginning of a video.

    Args:
      path: the file.
      frames: how many to return; the last one is repeated if the video is shorter.
      rate: frames a second; frame k is the last one shown by second k / rate.
      size: side in pixels; frames are cropped to their middle square.
      shape: what makes that of a frame, where not `pictures.square`.

    Returns:
      uint8 [frames, size, size, 3].

    Raises:
      ConfigError: no such file, not a video, too large, or without frames.
    """
    shape = shape or (lambda picture: square(picture, size))
    out: list[np.ndarray] = []
    last, start = None, None
    with _opened(path, "video file", lambda container: container.streams.video) as (container, stream):
        for count, frame in enumerate(container.decode(stream)):
            if frame.width * frame.height > MAX_PIXELS:
                raise ConfigError(f"{path}: {frame.width}x{frame.height} is over {MAX_PIXELS} pixels")
            if count >= MAX_FRAMES:
                raise ConfigError(f"{path}: {frames} frames at {rate:g} a second are not within {MAX_FRAMES} frames")
            time = 0.0 if frame.time is None else float(frame.time)
            start = time if start is None else start
            while last is not None and len(out) < frames and time - start > len(out) / rate + 1e-3:
                out.append(shape(last.to_image()))
            last = frame
            if len(out) == frames:
                break
        if last is None:
            raise ConfigError(f"{path}: a video without frames")
        out += [shape(last.to_image())] * (frames - len(out))
    return np.stack(out)


def read_audio(path: Any, samples: int, rate: int) -> np.ndarray:
    """The beginning of a sound, mono.

    Args:
      path: the file; of a video, its sound.
      samples: how many to return; silence follows a shorter sound.
      rate: samples a second; others are resampled.

    Returns:
      float32 [samples] in [-1, 1].

    Raises:
      ConfigError: no such file, not a sound, too large, or without samples.
    """
    parts: list[np.ndarray] = []
    with _opened(path, "sound file", lambda container: container.streams.audio) as (container, stream):
        resampler = _av().AudioResampler(format="fltp", rate=rate)
        # Channels are averaged: FFmpeg's own mono sums them to more than full scale.
        for frame in container.decode(stream):
            parts += [part.to_ndarray().mean(0) for part in resampler.resample(frame)]
            if sum(map(len, parts)) >= samples:
                break
        else:
            parts += [part.to_ndarray().mean(0) for part in resampler.resample(None)]
    wave_ = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not wave_.size:
        raise ConfigError(f"{path}: a sound without samples")
    wave_ = np.clip(np.nan_to_num(wave_[:samples].astype(np.float32)), -1, 1)
    return np.pad(wave_, (0, samples - len(wave_)))


def write_video(path: Any, frames: np.ndarray, rate: float) -> None:
    """Writes uint8 [T, H, W, 3] as H.264 in mp4, each pixel enlarged so that small clips keep their colours."""
    av = _av()
    from fractions import Fraction

    zoom = max(1, round(256 / min(frames.shape[1:3])))
    frames = frames.repeat(zoom, 1).repeat(zoom, 2)
    height, width = (side - side % 2 for side in frames.shape[1:3])  # halved colour planes
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "10"}
        for pixels in frames[:, :height, :width]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))


def to_int16(wave: np.ndarray) -> np.ndarray:
    """A wave in [-1, 1], clipped to it, as int16 of the same shape; `FULL` is 1."""
    return np.clip(np.round(np.asarray(wave, np.float32) * FULL), -FULL, FULL - 1).astype(np.int16)


def write_wav(file: Any, samples: np.ndarray, rate: int) -> None:
    """Writes int16 [N] as a mono wav, to a path or a binary file."""
    with wave.open(file if hasattr(file, "write") else str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.asarray(samples, "<i2").tobytes())
