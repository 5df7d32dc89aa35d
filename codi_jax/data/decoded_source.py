"""Records of media as samples of the sizes that a model wants.

    record   {"text": caption, or several, "image": MediaFile, "audio": MediaFile, "video": MediaFile}
    sample   {"text": {"caption", "prompt"}, "image": uint8 [S, S, 3], "audio": int16 [N], "video": uint8 [T, S, S, 3]}

Whatever is drawn (which of several captions, where to cut a prompt or a picture) is drawn from the sample's own seed:
it is the same in every epoch and on every host.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np

from codi_jax.config import ConfigError, renamed
from codi_jax.data import files
from codi_jax.data.decoder_pool import DecoderPool
from codi_jax.data.files import MediaError
from codi_jax.data.images import crop_resize
from codi_jax.data.source import available_cores

KINDS = ("text", "image", "audio", "video")
TIMED = ("audio", "video")  # of whose files there may be a part
PART = ("start", "duration")  # what a record says of it, in seconds
SUFFIXES = {
    "text": ("txt", "json"),
    "image": ("jpg", "jpeg", "png", "webp", "bmp", "tiff"),
    "audio": ("wav", "flac", "mp3", "ogg", "m4a", "opus"),
    "video": ("mp4", "webm", "mkv", "mov", "avi"),
}
MAX_CAPTION = 10_000  # characters


@dataclasses.dataclass(frozen=True)
class MediaConfig:
    """What samples are to be like.

    Attributes:
      modalities: what each holds.
      size: side in pixels of pictures and frames.
      frames, rate: of a clip, and how many of them there are a second.
      samples, sample_rate: of a sound, and how many of them there are a second.
      crop: a picture's middle square, or any (and mirrored or not); of a clip always the middle.
      truncate: probability that a caption's prompt is only its beginning, while the caption is the target.
      middle_frame: take the picture from the middle of the clip: the prompt of a clip, as the paper has it.
      seed: of what is drawn.
      views: how often each record is there, drawn anew every time; so an `encode` stage can compute several.
      timeout_s: seconds that a sound or clip may take in a process of its own, which is killed after them; 0 decodes it
        here, where a hang or crash of the decoder is one of the run.
    """

    modalities: tuple[str, ...]
    size: int = 256
    frames: int = 8
    rate: float = 4.0
    samples: int = 163_840
    sample_rate: int = 16_000
    crop: Literal["middle", "random"] = "middle"
    truncate: float = 0.0
    middle_frame: bool = False
    seed: int = 0
    views: int = 1
    timeout_s: float = renamed("patience", default=30.0)

    def __post_init__(self):
        unknown = [name for name in self.modalities if name not in KINDS]
        if unknown or not self.modalities:
            raise ConfigError(f"media.modalities: some of {', '.join(KINDS)}, not {', '.join(unknown) or 'none'}")
        if min(self.size, self.frames, self.samples, self.sample_rate, self.views) < 1 or self.rate <= 0:
            raise ConfigError("media: size, frames, rate, samples, sample_rate and views are positive")
        if not 0 <= self.truncate <= 1:
            raise ConfigError(f"media.truncate: a probability, not {self.truncate}")
        if self.middle_frame and "video" not in self.modalities:
            raise ConfigError("media.middle_frame: takes a picture of the clip, so modalities have to name video")

    def needs(self) -> list[tuple[str, ...]]:
        """What a record has to hold: for each modality what it may be taken from, the first that is there."""
        # A sound that is not there by itself is that of the clip.
        taken = {"image": ("video",) if self.middle_frame else ("image",), "audio": ("audio", "video")}
        return [taken.get(name, (name,)) for name in self.modalities]


class Records(Protocol):
    """Records by index; what cannot be used raises MediaError."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


class DecodedSource:
    """The samples of records."""

    parallel = True

    def __init__(self, records: Records, config: MediaConfig):
        self.records, self.config = records, config
        if set(TIMED) & set(config.modalities):
            files.pyav()  # not to be missed sample by sample
        self._reader = DecoderPool(config.timeout_s, available_cores()) if config.timeout_s else files

    def __len__(self) -> int:
        return self.config.views * len(self.records)

    def record(self, index: int) -> Mapping[str, Any]:
        """What sample `index` is made of."""
        return self.records[index % len(self.records)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Raises MediaError for a sample that cannot be used."""
        rng = np.random.default_rng([self.config.seed, index])
        return decode_record(self.record(index), self.config, rng, self._reader)


def decode_record(
    record: Mapping[str, Any], config: MediaConfig, rng: np.random.Generator, reader: Any = files
) -> dict[str, Any]:
    """A record as a sample; `reader`: the module `files`, or a reader of `data.apart`.

    Raises:
      MediaError: it lacks a modality, or a medium is not what it has to be.
      ConfigError: a modality is none of `KINDS`.
    """
    # Drawn at once and in one order, whatever the sample holds.
    which, cut, at, crop = rng.random(), rng.random(), rng.random(), int(rng.integers(2**31))
    sample: dict[str, Any] = {}
    for name in sorted(config.modalities, key=KINDS.index, reverse=True):  # a clip before its picture
        if name == "image" and config.middle_frame:
            sample["image"] = sample["video"][config.frames // 2]
            continue
        # A sound that is not there by itself is that of the clip.
        given = record.get(name, record.get("video") if name == "audio" else None)
        if given is None or (name == "text" and not given):
            raise MediaError("missing", f"{record.get('name', 'a sample')}: no {name}")
        if name == "text":
            caption = pick_caption(given, which)
            sample["text"] = {
                "caption": caption,
                "prompt": truncate_caption(caption, at) if cut < config.truncate else caption,
            }
        elif name == "image":
            sample["image"] = crop_resize(
                files.read_image(given), config.size, crop if config.crop == "random" else None
            )
        elif name == "audio":
            sample["audio"] = files.to_int16(reader.read_audio(given, config.samples, config.sample_rate))
        elif name == "video":
            sample["video"] = reader.read_video(given, config.frames, config.rate, config.size)
        else:
            raise ConfigError(f"media.modalities: nothing here reads {name}")
    return {name: sample[name] for name in config.modalities}


def is_caption(name: str) -> bool:
    """Whether what stands for it is itself no file."""
    return name == "text"


def pick_caption(captions: Any, u: float) -> str:
    """One of several captions, by a number in [0, 1); white space made single spaces.

    Raises:
      MediaError: it is empty, or far too long.
    """
    if isinstance(captions, list) and captions:
        captions = captions[int(u * len(captions))]
    if not isinstance(captions, str):
        raise MediaError("unreadable", f"a caption that is no text: {captions!r:.80}")
    caption = " ".join(captions.split())
    if not caption:
        raise MediaError("empty", "a caption without a word")
    if len(caption) > MAX_CAPTION:
        raise MediaError("large", f"a caption of {len(caption)} characters: {caption[:60]!r}…")
    return caption


def truncate_caption(caption: str, u: float) -> str:
    """The first words of a caption: any number of them but all, by a number in [0, 1); one word stays."""
    words = caption.split()
    return " ".join(words[: 1 + int(u * max(len(words) - 1, 1))])
