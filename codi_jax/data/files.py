"""Pictures, sounds and videos in files, read by Pillow and PyAV (FFmpeg inside its wheel; extra `media`), and written.

A file comes from outside, so its size is bounded before and while it is decoded, and whatever the libraries find wrong
with it is one line. It lies on a disk or, as one of a tar, in memory.

Sound and pictures of one file are told the time by the same clock, that of the container. What an encoder has put in
front of a sound (1024 samples of AAC) lies before its beginning, and is cut off.
"""

import dataclasses
import io
import itertools
import os
import warnings
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from codi_jax.config import ConfigError
from codi_jax.data.images import crop_resize

warnings.filterwarnings("ignore", module=r"PIL\.")  # of a damaged file it has many; what counts is said once, here

FULL = 1 << 15  # int16 of full scale
MAX_BYTES = 1 << 30
MAX_PIXELS = 64 << 20  # of a picture, or of a frame
MAX_FRAMES = 10_000  # decoded of one file
MAX_RATE = 768_000  # samples a second
_BEFORE = 0.5  # seconds that are decoded before a start: a decoder that begins in the middle needs a few packets

Shape = Callable[[Image.Image], np.ndarray]  # a frame to uint8 [size, size, 3]


class MediaError(ConfigError):
    """A file that cannot be used.

    Attributes:
      reason: `missing`, `empty`, `large`, `kind` (another than asked for), `unreadable`, `numbers` (that are none);
        `crash` or `hang` of the decoder.
    """

    def __init__(self, reason: str, said: str):
        super().__init__(said)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class MediaFile:
    """A file, or a part of its time.

    Attributes:
      name: its path, or what it is called where it lies in memory.
      data: its bytes, if it does.
      start: second at which the part begins.
      duration: seconds; None is to the end.
    """

    name: str
    data: bytes | None = None
    start: float = 0.0
    duration: float | None = None

    def __post_init__(self):
        if not (0 <= self.start < float("inf") and (self.duration is None or self.duration > 0)):
            raise MediaError(
                "unreadable", f"{self.name}: no part of it begins at {self.start} and lasts {self.duration} seconds"
            )

    def size(self) -> int | None:
        """Bytes; None if there is no such file."""
        if self.data is not None:
            return len(self.data)
        return os.stat(self.name).st_size if os.path.isfile(self.name) else None

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data) if self.data is not None else open(self.name, "rb")


def _medium(given: Any, what: str) -> MediaFile:
    """A path, or a medium, that is there and not too large."""
    medium = given if isinstance(given, MediaFile) else MediaFile(str(given))
    size = medium.size()
    if size is None:
        raise MediaError("missing", f"{medium.name}: no such {what}")
    if size > MAX_BYTES:
        raise MediaError("large", f"{medium.name}: larger than {MAX_BYTES >> 20} MiB")
    return medium


def _at(medium: MediaFile) -> str:
    return f" from second {medium.start:g} on" if medium.start else ""


def pyav() -> Any:
    """PyAV; raises ConfigError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise ConfigError("sound and video files need PyAV: pip install 'codi_jax[media]'") from error
    av.logging.set_level(None)  # what FFmpeg has to say comes as an exception
    return av


@contextmanager
def _opened(medium: MediaFile, what: str, streams_of: Callable[[Any], Sequence[Any]]) -> Iterator[tuple[Any, Any]]:
    """(container, the first of its streams that are asked for); errors of FFmpeg become a ConfigError."""
    av = pyav()
    try:
        # Handed over opened, and with no protocol allowed, so that a playlist opens nothing.
        with medium.open() as file, av.open(file, options={"protocol_whitelist": "none"}) as container:
            streams = streams_of(container)
            if not streams:
                raise MediaError("kind", f"{medium.name}: not a {what}, but one of another kind")
            yield container, streams[0]
    except (av.FFmpegError, OSError, ValueError, UnicodeError, MemoryError) as error:
        if isinstance(error, ConfigError):
            raise
        raise MediaError("unreadable", f"{medium.name}: not a readable {what} ({type(error).__name__})") from error


def _from(container: Any, stream: Any, start: float) -> tuple[Iterator[Any], float]:
    """Frames from a little before second `start`, and what the container's clock says at that second.

    Second 0 is that of the first picture, where there are any: some containers start the clock with what precedes a
    sound.
    """
    pictures = next((s for s in container.streams.video if s.start_time is not None), None)
    began = float(pictures.start_time * pictures.time_base) if pictures else (container.start_time or 0) / 1e6
    began = max(began, 0.0)
    before = _BEFORE
    while start > before:
        container.seek(int((began + start - before) / stream.time_base), stream=stream)
        decoded = container.decode(stream)
        first = next(decoded, None)
        if first is not None and first.time is not None and first.time <= began + start:
            return itertools.chain((first,), decoded), began + start
        before *= 4  # some containers are sought by bytes, and what is found there is later, or no whole picture
    if before > _BEFORE:
        container.seek(stream.start_time or 0, stream=stream)
    return container.decode(stream), began + start


def probe(medium: MediaFile) -> dict[str, float]:
    """What a file says of itself: width, height, seconds, frames a second, samples a second, megabytes.

    Raises:
      MediaError: it says nothing.
    """
    found: dict[str, float] = {"megabytes": round((medium.size() or 0) / 1e6, 3)}
    try:
        with medium.open() as file, Image.open(file) as picture:
            return found | {"width": picture.width, "height": picture.height}
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        pass
    with _opened(medium, "file", lambda container: container.streams) as (container, _):
        if container.duration:
            found["seconds"] = round(container.duration / 1e6, 3)
        for stream in container.streams.video[:1]:
            found |= {"width": stream.width, "height": stream.height}
            found["frames a second"] = round(float(stream.average_rate or 0), 3)
        for stream in container.streams.audio[:1]:
            found["samples a second"] = stream.rate
    return found


def read_image(path: Any) -> Image.Image:
    """A picture as RGB: turned as its camera says, what is transparent on white, 16-bit greys as 8-bit ones.

    Args:
      path: a path, or a MediaFile.

    Raises:
      ConfigError: no such file, not a picture, or too large.
    """
    medium = _medium(path, "picture")
    try:
        with medium.open() as file, Image.open(file) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise MediaError(
                    "large", f"{medium.name}: {picture.width}x{picture.height} is over {MAX_PIXELS} pixels"
                )
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I;16"):
                picture = Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            return picture.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ConfigError):
            raise
        raise MediaError("unreadable", f"{medium.name}: not a readable picture ({type(error).__name__})") from error


def read_video(path: Any, frames: int, rate: float, size: int, shape: Shape | None = None) -> np.ndarray:
    """The beginning of a video, or of a part of it.

    Args:
      path: a path, or a MediaFile.
      frames: how many to return; the last one is repeated if the video is shorter.
      rate: frames a second; frame k is the last one shown by second k / rate.
      size: side in pixels; frames are cropped to their middle square.
      shape: what makes that of a frame, where not `images.crop_resize`.

    Returns:
      uint8 [frames, size, size, 3].

    Raises:
      ConfigError: no such file, not a video, too large, or without frames.
    """
    medium, shape = _medium(path, "video file"), shape or (lambda picture: crop_resize(picture, size))
    out: list[np.ndarray] = []
    last, time = None, 0.0
    with _opened(medium, "video file", lambda container: container.streams.video) as (container, stream):
        decoded, origin = _from(container, stream, medium.start)
        for count, frame in enumerate(decoded):
            if frame.width * frame.height > MAX_PIXELS:
                raise MediaError("large", f"{medium.name}: {frame.width}x{frame.height} is over {MAX_PIXELS} pixels")
            if count >= MAX_FRAMES:
                raise MediaError(
                    "large", f"{medium.name}: {frames} frames at {rate:g} a second are not within {MAX_FRAMES} frames"
                )
            time = 0.0 if frame.time is None else float(frame.time) - origin
            if medium.duration is not None and time >= medium.duration:
                break
            while last is not None and len(out) < frames and time > len(out) / rate + 1e-3:
                out.append(shape(last.to_image()))
            last = frame
            if len(out) == frames:
                break
        shown = float(1 / stream.average_rate) if stream.average_rate else 0.0  # seconds that the last one lasts
        if last is None or (medium.start and time + shown <= 0):
            raise MediaError("empty", f"{medium.name}: a video without frames" + _at(medium))
        out += [shape(last.to_image())] * (frames - len(out))
    return np.stack(out)


def read_audio(path: Any, samples: int, rate: int) -> np.ndarray:
    """The beginning of a sound, or of a part of it, mono.

    Args:
      path: a path, or a MediaFile; of a video, its sound.
      samples: how many to return; silence follows a shorter sound.
      rate: samples a second; others are resampled.

    Returns:
      float32 [samples] in [-1, 1].

    Raises:
      ConfigError: no such file, not a sound, too large, without samples, or with some that are not numbers.
    """
    medium = _medium(path, "sound file")
    with _opened(medium, "sound file", lambda container: container.streams.audio) as (container, stream):
        own = stream.rate or 0
        if not 0 < own <= MAX_RATE:
            raise MediaError("unreadable", f"{medium.name}: a sound of {own} samples a second")
        decoded, origin = _from(container, stream, medium.start)
        wanted = -(-samples * own // rate) + (own != rate) * own // 10  # a filter looks ahead a little
        if medium.duration is not None:
            wanted = min(wanted, round(medium.duration * own))
        sound, end, planar = np.zeros(wanted, np.float32), 0, pyav().AudioResampler(format="fltp")
        at, found = 0, False
        for frame in decoded:
            for part in planar.resample(frame):
                # Channels are averaged: FFmpeg's own mono sums them to more than full scale.
                wave_ = part.to_ndarray().mean(0, dtype=np.float32)
                at = at if part.time is None else round((part.time - origin) * own)
                first, past = max(at, 0), min(at + len(wave_), wanted)
                if first < past:
                    sound[first:past] = wave_[first - at : past - at]
                    found, end = True, max(end, past)
                at += len(wave_)
            if at >= wanted:
                break
    if not found:
        raise MediaError("empty", f"{medium.name}: a sound without samples" + _at(medium))
    if not np.isfinite(sound).all():
        raise MediaError("numbers", f"{medium.name}: a sound with samples that are not numbers")
    sound = resample(sound[:end], own, rate)[:samples]
    return np.pad(np.clip(sound, -1, 1), (0, samples - len(sound)))


def resample(sound: np.ndarray, own: int, rate: int) -> np.ndarray:
    """float32 [N] of one rate at another, by FFmpeg's filter."""
    if own == rate:
        return sound
    frame = pyav().AudioFrame.from_ndarray(np.ascontiguousarray(sound[None]), format="fltp", layout="mono")
    frame.sample_rate = own
    resampler = pyav().AudioResampler(format="fltp", layout="mono", rate=rate)
    return np.concatenate([part.to_ndarray()[0] for given in (frame, None) for part in resampler.resample(given)])


def write_video(path: Any, frames: np.ndarray, rate: float) -> None:
    """Writes uint8 [T, H, W, 3] as H.264 in mp4, each pixel enlarged so that small clips keep their colours."""
    av = pyav()
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
