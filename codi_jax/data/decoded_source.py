"""Decodes records of media files into samples of fixed sizes.

    record   {"text": a caption or a list, "image": MediaFile, "audio": MediaFile, "video": MediaFile}
    sample   {"text": {"caption", "prompt"}, "image": uint8 [S, S, 3], "audio": int16 [N], "video": uint8 [T, S, S, 3]}

An image of Pillow, `Audio` and `Frames` may take the place of a file.

Every random choice (the caption, where a prompt is truncated, the crop of an image, the window of time) is seeded by
the sample's index: it is the same in every epoch and on every host.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import jax
import numpy as np

from codi_jax.config import NO_EFFECT, ConfigError, config_class, renamed
from codi_jax.data.decoder_pool import DecoderPool
from codi_jax.data.skip_bad_samples import FaultsConfig, SkipBadSamples
from codi_jax.data.source import available_cores
from codi_jax.data.window import random_window
from codi_jax.media import files
from codi_jax.media.arrays import Frames, picture, read_waveform
from codi_jax.media.audio import Audio
from codi_jax.media.files import MediaError
from codi_jax.media.image_files import read_image
from codi_jax.media.images import crop_resize
from codi_jax.rng import check_seed

KINDS = ("text", "image", "audio", "video")
TIMED = ("audio", "video")  # may be given as a part of a file
PART = ("start", "duration")  # the fields of a record that select the part, in seconds
SUFFIXES = {
    "text": ("txt", "json"),
    "image": (
        *("jpg", "jpeg", "png", "webp", "bmp", "tiff", "tif", "gif", "avif", "jp2"),
        *("heic", "heif", "pgm", "ppm", "pnm"),
    ),
    "audio": ("wav", "flac", "mp3", "ogg", "m4a", "opus", "oga", "aac", "aiff", "aif", "wma", "ac3"),
    "video": ("mp4", "webm", "mkv", "mov", "avi", "m4v", "mpg", "mpeg", "ts", "flv", "wmv", "ogv", "3gp"),
}
_WINDOW = 1  # ends the seed of a window, which is drawn apart from the other choices
MAX_CAPTION = 10_000  # characters


@config_class()
class MediaConfig:
    """The contents and sizes of samples.

    Attributes:
      modalities: the modalities of each sample.
      size: side of images and video frames, in pixels.
      frames, rate: number of video frames, and frames per second.
      samples, sample_rate: number of audio samples, and samples per second.
      crop: an image's center crop, or a random square crop with random mirroring; a video is always cropped at its
        center.
      window: which part of audio and video is read: the beginning, or a random one, the same of all files of a record.
      truncate: probability that the prompt is a truncated caption; the target stays the whole caption.
      middle_frame: the image is the middle frame of the video, which the paper uses as the video's prompt.
      seed: seed of all random choices.
      views: how many times each record occurs, each time with other random choices, so that an `encode` stage can
        compute several latents of it.
      timeout_s: time limit in seconds for decoding an audio or video file in a subprocess, which is then killed; 0
        decodes in this process, where a hang or a crash of the decoder is one of the run.
    """

    modalities: tuple[str, ...]
    size: int = 256
    frames: int = 8
    rate: float = 4.0
    samples: int = 163_840
    sample_rate: int = 16_000
    crop: Literal["middle", "random"] = "middle"
    window: Literal["beginning", "random"] = "beginning"
    truncate: float = 0.0
    middle_frame: bool = False
    seed: int = 0
    views: int = 1
    timeout_s: float = renamed("patience", default=30.0, metadata=NO_EFFECT)

    def __post_init__(self):
        unknown = [name for name in self.modalities if name not in KINDS]
        if unknown or not self.modalities:
            raise ConfigError(
                f"media.modalities: expected some of {', '.join(KINDS)}, got {', '.join(unknown) or 'none'}"
            )
        if min(self.size, self.frames, self.samples, self.sample_rate, self.views) < 1 or self.rate <= 0:
            raise ConfigError("media: size, frames, rate, samples, sample_rate and views must be positive")
        check_seed(self.seed, "media.seed")
        if not 0 <= self.truncate <= 1:
            raise ConfigError(f"media.truncate: expected a probability, got {self.truncate}")
        if self.middle_frame and "video" not in self.modalities:
            raise ConfigError("media.middle_frame: takes the image from the video, so modalities must contain video")

    def seconds(self) -> float:
        """What is read of a record's audio and video, in seconds."""
        lengths = {"audio": self.samples / self.sample_rate, "video": self.frames / self.rate}
        return max((length for name, length in lengths.items() if name in self.modalities), default=0.0)

    def needs(self) -> list[tuple[str, ...]]:
        """For each modality, the fields of a record that it can be read from, in order of preference."""
        # Without an audio file, the audio is the soundtrack of the video.
        fields = {"image": ("video",) if self.middle_frame else ("image",), "audio": ("audio", "video")}
        return [fields.get(name, (name,)) for name in self.modalities]


class Records(Protocol):
    """Records by index. A record that cannot be used raises MediaError."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


class DecodedSource:
    """A source that decodes records into samples.

    Args:
      records: records by index.
      config: see MediaConfig.

    Raises:
      ConfigError: audio or video is asked for and PyAV is not installed.
    """

    def __init__(self, records: Records, config: MediaConfig):
        self.records, self.config = records, config
        self.parallel = not all(map(is_caption, config.modalities))  # threads cost more than captions do
        if set(TIMED) & set(config.modalities):
            files.pyav()  # fail now if PyAV is missing, not once per sample
        self._reader = DecoderPool(config.timeout_s, available_cores()) if config.timeout_s else files

    def __len__(self) -> int:
        return self.config.views * len(self.records)

    def notes(self) -> list[str]:
        """What the records say of what they lack, as lines of text."""
        return getattr(self.records, "notes", list)()

    def record(self, index: int) -> Mapping[str, Any]:
        """The record of sample `index`."""
        return self.records[index % len(self.records)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Decodes sample `index`. Raises MediaError if it cannot be used."""
        return decode_record(self.record(index), self.config, (self.config.seed, index), self._reader)


def media_source(records: Records, media: MediaConfig, faults: FaultsConfig) -> SkipBadSamples:
    """The source of a reader's records: they are decoded, and bad samples replaced."""
    process = jax.process_index() if jax.distributed.is_initialized() else 0
    return SkipBadSamples(DecodedSource(records, media), faults, process)


def record_of_arrays(name: str, values: Mapping[str, Any], rates: Mapping[str, float]) -> dict[str, Any]:
    """The record of captions and decoded media.

    Args:
      name: of the record, for messages.
      values: by modality; see `picture`, `Frames` and `read_waveform` for shapes. Captions may be an array of bytes.
      rates: samples per second of "audio" and frames per second of "video".

    Raises:
      MediaError: an image has another shape.
    """
    record: dict[str, Any] = {"name": name}
    for kind, value in values.items():
        if is_caption(kind):
            record[kind] = _captions(value)
        elif kind == "image":
            record[kind] = picture(value)
        elif kind == "audio":
            record[kind] = Audio(value, int(rates[kind]))
        elif kind == "video":
            record[kind] = Frames(value, rates[kind])
    return record


def _captions(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [x.decode() if isinstance(x, bytes) else x for x in np.asarray(value, object).ravel().tolist()]
    return value


def decode_record(
    record: Mapping[str, Any], config: MediaConfig, seed: tuple[int, ...], reader: Any = files
) -> dict[str, Any]:
    """Decodes a record into a sample.

    Args:
      record: see the module.
      config: see MediaConfig.
      seed: of all random choices.
      reader: reads audio and video files: the module `files`, a `SubprocessDecoder` or a `DecoderPool`.

    Raises:
      MediaError: the record lacks a modality, or a file cannot be used.
      ConfigError: a modality is not in `KINDS`.
    """
    if config.window == "random":
        fields = {next((name for name in names if record.get(name) is not None), "") for names in config.needs()}
        try:
            window = random_window(record, fields & set(TIMED), config.seconds(), (*seed, _WINDOW), reader)
            return _decode(window, config, seed, reader)
        except MediaError as error:
            if error.reason != "empty":  # some containers say that they last longer than they do
                raise
    return _decode(record, config, seed, reader)


def _decode(record: Mapping[str, Any], config: MediaConfig, seed: tuple[int, ...], reader: Any) -> dict[str, Any]:
    @functools.cache
    def drawn() -> tuple[float, float, float, int]:
        """All random numbers, in one order, whatever the sample holds. A generator takes longer than a caption."""
        rng = np.random.default_rng(seed)
        return rng.random(), rng.random(), rng.random(), int(rng.integers(2**31))

    sample: dict[str, Any] = {}
    for name in sorted(config.modalities, key=KINDS.index, reverse=True):  # video before image
        if name == "image" and config.middle_frame:
            sample["image"] = sample["video"][config.frames // 2]
            continue
        # Without an audio file, the audio is the soundtrack of the video.
        value = record.get(name, record.get("video") if name == "audio" else None)
        if value is None or (name == "text" and not value):
            raise MediaError("missing", f"{record.get('name', 'a sample')}: no {name}")
        if name == "text":
            caption = pick_caption(value, drawn()[0] if isinstance(value, list) else 0.0)
            shorter = config.truncate > 0 and drawn()[1] < config.truncate
            prompt = truncate_caption(caption, drawn()[2]) if shorter else caption
            sample["text"] = {"caption": caption, "prompt": prompt}
        elif name == "image":
            crop = drawn()[3] if config.crop == "random" else None
            sample["image"] = crop_resize(read_image(value), config.size, crop)
        elif name == "audio":
            size = (config.samples, config.sample_rate)
            heard = read_waveform(value, *size) if isinstance(value, Audio) else reader.read_audio(value, *size)
            sample["audio"] = files.to_int16(heard)
        elif name == "video":
            size = (config.frames, config.rate, config.size)
            sample["video"] = value.read(*size) if isinstance(value, Frames) else reader.read_video(value, *size)
        else:
            raise ConfigError(f"media.modalities: cannot decode {name}")
    return {name: sample[name] for name in config.modalities}


def is_caption(name: str) -> bool:
    """Whether a record holds this modality as text and not as a file."""
    return name == "text"


def pick_caption(captions: Any, u: float) -> str:
    """A caption, or one of a list of captions, with whitespace collapsed to single spaces.

    Args:
      captions: a string, or a list of strings.
      u: a number in [0, 1) that picks from the list.

    Raises:
      MediaError: the caption is not a string, is empty, or is longer than `MAX_CAPTION`.
    """
    if isinstance(captions, list) and captions:
        captions = captions[int(u * len(captions))]
    if not isinstance(captions, str):
        raise MediaError("value", f"a caption is not a string: {captions!r:.80}")
    caption = " ".join(captions.split())
    if not caption:
        raise MediaError("empty", "a caption is empty")
    if len(caption) > MAX_CAPTION:
        raise MediaError("large", f"a caption of {len(caption)} characters: {caption[:60]!r}…")
    return caption


def truncate_caption(caption: str, u: float) -> str:
    """The first k words of a caption of n words, k uniform in 1, …, max(n − 1, 1), by the number `u` in [0, 1)."""
    words = caption.split()
    return " ".join(words[: 1 + int(u * max(len(words) - 1, 1))])
