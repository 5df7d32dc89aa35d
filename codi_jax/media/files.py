"""Media files, and reading and writing of audio and video with PyAV (which bundles FFmpeg; extra `media`).

Files are untrusted: sizes are bounded before and during decoding, and every error of the libraries becomes a MediaError
of one line. A file is on disk or, for example as a member of a tar, in memory.

Audio and frames of one file share the container's clock. The padding that an encoder puts before the audio (1024
samples for AAC) has negative times and is cut off.
"""

import dataclasses
import io
import itertools
import os
import warnings
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.media.display import shown
from codi_jax.media.images import crop_resize
from codi_jax.media.pcm import pcm_seconds, read_pcm

warnings.filterwarnings("ignore", module=r"PIL\.")  # Pillow warns about damaged files; errors are raised below

FULL = 1 << 15  # full scale of int16
MAX_BYTES = 1 << 30
MAX_PIXELS = 64 << 20  # of an image or a frame
_MAX_SHOWN = 1024  # characters of a path in a message
MAX_FRAMES = 10_000  # decoded from one file
MAX_RATE = 768_000  # samples per second
_PREROLL = 0.5  # seconds decoded before `start`: after a seek, a decoder needs a few packets

Shape = Callable[[Image.Image], np.ndarray]  # from a frame to uint8 [size, size, 3]


class MediaError(ConfigError):
    """A file that cannot be used.

    Attributes:
      reason: `missing`; `empty`; `cut`; `large`; `kind` (a file of another kind, or of none that is known); `damaged`;
        `numbers` (NaN or infinite samples); `value` (a field of its record); `crash` or `hang` (of the decoder).
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class MediaFile:
    """A media file, or a time interval of one.

    Attributes:
      name: the path; for a file in memory, a name for messages.
      data: the bytes of a file in memory; None for a file on disk.
      start: start of the interval, in seconds.
      duration: length of the interval, in seconds; None reads to the end.
    """

    name: str
    data: bytes | None = None
    start: float = 0.0
    duration: float | None = None

    def __post_init__(self):
        if not (0 <= self.start < float("inf") and (self.duration is None or self.duration > 0)):
            raise MediaError(
                "value", f"{self.name}: no interval with start {self.start} and duration {self.duration} seconds"
            )

    def size(self) -> int | None:
        """Size in bytes; None if the file does not exist."""
        if self.data is not None:
            return len(self.data)
        return os.stat(self.name).st_size if os.path.isfile(self.name) else None

    def open(self) -> BinaryIO:
        """A binary stream of the contents."""
        return io.BytesIO(self.data) if self.data is not None else open(self.name, "rb")


def existing_file(path: Any, what: str) -> MediaFile:
    """A path or MediaFile as a MediaFile.

    Raises:
      MediaError: it does not exist, is empty, or is too large.
    """
    file = path if isinstance(path, MediaFile) else MediaFile(str(path))
    size = file.size()
    if size is None:
        raise MediaError("missing", f"{_short(file.name)}: no such {what}")
    if not size:
        raise MediaError("empty", f"{file.name}: an empty file")
    if size > MAX_BYTES:
        raise MediaError("large", f"{file.name}: larger than {MAX_BYTES >> 20} MiB")
    return file


def _short(name: str) -> str:
    """A path for a message: that of a column may be a whole image in base64."""
    return name if len(name) <= _MAX_SHOWN else f"{name[:60]}… ({len(name)} characters)"


def _after_start(file: MediaFile) -> str:
    return f" after second {file.start:g}" if file.start else ""


def pyav() -> Any:
    """The module of PyAV. Raises ConfigError if it is not installed."""
    try:
        import av.logging
    except ImportError as error:
        raise ConfigError("audio and video files need PyAV: pip install 'codi_jax[media]'") from error
    av.logging.set_level(None)  # FFmpeg's errors are raised as exceptions
    return av


@contextmanager
def opened(file: MediaFile, what: str, streams_of: Callable[[Any], Sequence[Any]]) -> Iterator[tuple[Any, Any]]:
    """The container and the first stream of `streams_of(container)`. FFmpeg's errors become a MediaError."""
    av = pyav()
    try:
        # FFmpeg gets an open stream and may use no protocol, so that a playlist cannot open other files.
        with file.open() as stream, av.open(stream, options={"protocol_whitelist": "none"}) as container:
            streams = streams_of(container)
            if not streams:
                raise MediaError("kind", f"{file.name}: has no {what.removesuffix(' file')} stream")
            if getattr(streams[0], "codec_context", None) is not None:
                # PyAV frees a decoder with the next garbage collection, its threads, too: hundreds at a time.
                streams[0].codec_context.thread_count = 1
            yield container, streams[0]
    except (av.FFmpegError, OSError, ValueError, UnicodeError, MemoryError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = "cut" if isinstance(error, EOFError) else "damaged"
        if isinstance(error, (MemoryError, BlockingIOError)):  # the latter where a thread cannot be started
            reason = "large"
        raise MediaError(reason, f"{file.name}: not a readable {what} ({type(error).__name__})") from error


def _decode_from(container: Any, stream: Any, start: float) -> tuple[Iterator[Any], float]:
    """The decoded frames from a little before second `start`, and the time of that second on the container's clock.

    Second 0 is the time of the first video frame, if the file has video: some containers start their clock at the
    padding before the audio.
    """
    video = next((s for s in container.streams.video if s.start_time is not None), None)
    zero = float(video.start_time * video.time_base) if video else (container.start_time or 0) / 1e6
    zero = max(zero, 0.0)
    preroll = _PREROLL
    while start > preroll:
        container.seek(int((zero + start - preroll) / stream.time_base), stream=stream)
        decoded = container.decode(stream)
        first = next(decoded, None)
        if first is not None and first.time is not None and first.time <= zero + start:
            return itertools.chain((first,), decoded), zero + start
        preroll *= 4  # some containers seek by bytes: they land too late, or between key frames
    if preroll > _PREROLL:
        container.seek(stream.start_time or 0, stream=stream)
    return container.decode(stream), zero + start


def seconds(file: MediaFile) -> float:
    """The length of an audio or video file, or of an interval of it, in seconds; 0 if its container does not say.

    Raises:
      MediaError: the file does not exist, is not a media file, or is too large.
    """
    whole = None
    with suppress(OSError), existing_file(file, "media file").open() as stream:
        whole = pcm_seconds(stream)
    if whole is None:
        with opened(file, "media file", lambda container: container.streams) as (container, _):
            whole = (container.duration or 0) / 1e6
    rest = max(whole - file.start, 0.0)
    return rest if file.duration is None else min(rest, file.duration)


def given_file(value: Any) -> MediaFile | None:
    """The file of a path (`~` is expanded) or of contents in bytes, or a MediaFile itself; None for other values."""
    if isinstance(value, MediaFile):
        return value
    if isinstance(value, bytes):
        return MediaFile(f"a file of {len(value)} bytes", value)
    if isinstance(value, (str, os.PathLike)):
        return MediaFile(os.path.expanduser(os.fspath(value)))
    return None


def check_pixels(width: int, height: int, name: str) -> None:
    """Raises MediaError if an image or a frame has too many pixels."""
    if width * height > MAX_PIXELS:
        raise MediaError("large", f"{name}: {width}x{height} is over {MAX_PIXELS} pixels")


def read_video(path: Any, frames: int, rate: float, size: int, shape: Shape | None = None) -> np.ndarray:
    """Reads the first frames of a video, or of an interval of it.

    Args:
      path: a path or a MediaFile.
      frames: T, the number of frames; the last one is repeated if the video is shorter.
      rate: frames per second; frame k is the last one shown by second k / rate.
      size: S, the side of a frame in pixels.
      shape: crops and resizes a frame; by default `images.crop_resize`, which takes the center crop.

    Returns:
      uint8 [T, S, S, 3].

    Raises:
      MediaError: the file does not exist, is not a video, is too large, or has no frames.
    """
    file, shape = existing_file(path, "video file"), shape or (lambda image: crop_resize(image, size))
    out: list[np.ndarray] = []
    last, time = None, 0.0
    with opened(file, "video file", lambda container: container.streams.video) as (container, stream):
        decoded, origin = _decode_from(container, stream, file.start)
        aspect = float(stream.sample_aspect_ratio or 1)
        for count, frame in enumerate(decoded):
            check_pixels(frame.width, frame.height, file.name)
            if count >= MAX_FRAMES:
                raise MediaError(
                    "large",
                    f"{file.name}: {frames} frames at {rate:g} a second are more than {MAX_FRAMES} frames of the file",
                )
            time = 0.0 if frame.time is None else float(frame.time) - origin
            if file.duration is not None and time >= file.duration:
                break
            while last is not None and len(out) < frames and time > len(out) / rate + 1e-3:
                out.append(shape(shown(last, aspect)))
            last = frame
            if len(out) == frames:
                break
        lasts = float(1 / stream.average_rate) if stream.average_rate else 0.0  # seconds of the last frame
        if last is None or (file.start and time + lasts <= 0):
            raise MediaError("empty", f"{file.name}: the video has no frames" + _after_start(file))
        out += [shape(shown(last, aspect))] * (frames - len(out))
    return np.stack(out)


def read_audio(path: Any, samples: int, rate: int) -> np.ndarray:
    """Reads the first samples of an audio file or a video's soundtrack, or of an interval of it, as mono.

    Args:
      path: a path or a MediaFile.
      samples: N, the number of samples; shorter audio is padded with zeros.
      rate: samples per second to resample to.

    Returns:
      float32 [N] in [-1, 1].

    Raises:
      MediaError: the file does not exist, has no audio, is too large, has no samples, or has NaN or infinite samples.
    """
    file = existing_file(path, "audio file")
    return _fitted(file, *(_read_pcm(file, samples, rate) or _decode_audio(file, samples, rate)), samples, rate)


def read_wav(file: MediaFile, samples: int, rate: int) -> np.ndarray | None:
    """As `read_audio`, of WAV files, in which nothing is compressed; None for other files and those with errors."""
    size = file.size()
    if not size or size > MAX_BYTES or (read := _read_pcm(file, samples, rate, wav_only=True)) is None:
        return None
    return _fitted(file, *read, samples, rate)


def _fitted(file: MediaFile, waveform: np.ndarray, source_rate: int, samples: int, rate: int) -> np.ndarray:
    """`fit_waveform` of what was read of a file. Raises MediaError if that is empty, or has no finite numbers."""
    if not len(waveform):
        raise MediaError("empty", f"{file.name}: the audio has no samples" + _after_start(file))
    if not np.isfinite(waveform).all():
        raise MediaError("numbers", f"{file.name}: the audio has NaN or infinite samples")
    return fit_waveform(waveform, source_rate, samples, rate)


def _read_pcm(file: MediaFile, samples: int, rate: int, wav_only: bool = False) -> tuple[np.ndarray, int] | None:
    """As `_decode_audio`, of WAV and FLAC files; None for others."""
    with suppress(OSError), file.open() as stream:
        read = read_pcm(stream, file.start, lambda source_rate: _length(file, samples, source_rate, rate), wav_only)
        return None if read is None else (_mono(read[0]), read[1])
    return None


def _length(file: MediaFile, samples: int, source_rate: int, rate: int) -> int:
    """How many samples of a file to read for `samples` at `rate`. Raises MediaError if its rate is impossible."""
    if not 0 < source_rate <= MAX_RATE:
        raise MediaError("damaged", f"{file.name}: audio of {source_rate} samples a second")
    length = length_to_read(samples, source_rate, rate)
    return length if file.duration is None else min(length, round(file.duration * source_rate))


def _mono(samples: np.ndarray) -> np.ndarray:
    """The mean of the channels of float32 [N, C]: FFmpeg's own mono sums them to more than full scale."""
    with np.errstate(all="ignore"):  # infinite samples are refused where all are known
        return samples.mean(1, dtype=np.float32)


def _decode_audio(file: MediaFile, samples: int, rate: int) -> tuple[np.ndarray, int]:
    """What `samples` at `rate` are made of, as float32 [N], the mean of channels, and its own rate."""
    with opened(file, "audio file", lambda container: container.streams.audio) as (container, stream):
        source_rate = getattr(stream, "rate", 0) or 0  # an odd wav header leaves a stream without a rate
        length = _length(file, samples, source_rate, rate)
        decoded, origin = _decode_from(container, stream, file.start)
        waveform, end = np.zeros(length, np.float32), 0
        packed = pyav().AudioResampler(format="flt")  # PyAV reads beyond the planes of more than eight channels
        position = None
        for frame in decoded:
            position = _position(frame, position, origin, source_rate)
            for part in packed.resample(frame):
                chunk = _mono(part.to_ndarray().reshape(part.samples, -1))
                first, past = max(position, 0), min(position + len(chunk), length)
                if first < past:
                    waveform[first:past] = chunk[first - position : past - position]
                    end = max(end, past)
                position += len(chunk)
            if position >= length:
                break
    return waveform[:end], source_rate


def _position(frame: Any, expected: int | None, origin: float, rate: int) -> int:
    """The sample at which a frame starts: `expected`, where the one before it ends, unless its time says otherwise.

    Containers round times, some to milliseconds (mkv, flv), and samples do not: a time counts from two units of the
    container's clock or three quarters of a frame on, which are frames that are lost or come twice.
    """
    if frame.time is None:
        return expected or 0
    position = round((frame.time - origin) * rate)
    slack = max(0.75 * frame.samples, 2 * float(frame.time_base) * rate)
    return position if expected is None or abs(position - expected) > slack else expected


def length_to_read(samples: int, source_rate: int, rate: int) -> int:
    """How many samples of a source make `samples` at `rate`, and 0.1 s for the resampling filter, which looks ahead."""
    return -(-samples * source_rate // rate) + (source_rate != rate) * source_rate // 10


def fit_waveform(waveform: np.ndarray, source_rate: int, samples: int, rate: int) -> np.ndarray:
    """Resamples float32 [N] to `rate`, cuts it or pads it with zeros to [samples], and clips it to [-1, 1]."""
    waveform = resample(waveform, source_rate, rate)[:samples]
    return np.pad(np.clip(waveform, -1, 1), (0, samples - len(waveform)))


def resample(waveform: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    """Resamples float32 [N] from `source_rate` to `rate` samples per second, with FFmpeg's filter."""
    if source_rate == rate:
        return waveform
    frame = pyav().AudioFrame.from_ndarray(np.ascontiguousarray(waveform[None]), format="fltp", layout="mono")
    frame.sample_rate = source_rate
    resampler = pyav().AudioResampler(format="fltp", layout="mono", rate=rate)
    parts = [part.to_ndarray()[0] for x in (frame, None) for part in resampler.resample(x)]
    return np.concatenate([np.zeros(0, np.float32), *parts])  # none of a waveform shorter than a sample of `rate`


def write_video(path: Any, frames: np.ndarray, rate: float) -> None:
    """Writes uint8 [T, H, W, 3] as H.264 in mp4; small frames are enlarged, so that they keep their colours."""
    av = pyav()
    from fractions import Fraction

    zoom = max(1, round(256 / min(frames.shape[1:3])))
    frames = frames.repeat(zoom, 1).repeat(zoom, 2)
    height, width = (side - side % 2 for side in frames.shape[1:3])  # even, for the half-size colour planes
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "10"}
        for pixels in frames[:, :height, :width]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))


def to_int16(wave: np.ndarray) -> np.ndarray:
    """Converts a waveform to int16 of the same shape, clipped to [-1, 1]; 1 becomes `FULL`."""
    return np.clip(np.round(np.asarray(wave, np.float32) * FULL), -FULL, FULL - 1).astype(np.int16)


def write_wav(file: Any, samples: np.ndarray, rate: int) -> None:
    """Writes int16 [N] as a mono WAV file, to a path or a binary stream."""
    with wave.open(file if hasattr(file, "write") else str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.asarray(samples, "<i2").tobytes())
