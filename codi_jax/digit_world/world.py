"""digit_world as a data source: sample i is a function of (seed, split, i)."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from codi_jax.config import ConfigError, config_class
from codi_jax.data.source import check_indices, register
from codi_jax.digit_world import audio, videos
from codi_jax.digit_world.captions import WAYS, Wordings, caption, truncate
from codi_jax.digit_world.draws import choose, uniform
from codi_jax.digit_world.factors import (
    CARRIES,
    DIGITS,
    FACTORS,
    MOMENTS,
    MOTIONS,
    NEVER_PAIRED,
    Combinations,
    allowed,
)
from codi_jax.digit_world.glyphs import Split, glyph_index, glyphs
from codi_jax.digit_world.images import paint, warp
from codi_jax.digit_world.speech import speech, utterance_index
from codi_jax.digit_world.videos import move

SHIFT, SCALE, ANGLE = 2.0, 0.1, np.deg2rad(10)  # pixels, fraction, radians: largest random distortion of a glyph


@config_class()
class WorldConfig:
    """Config of digit_world.

    Attributes:
      split: split of glyphs and speakers: train, judge, val or test.
      size: number of samples.
      seed: samples of different seeds are independent.
      combinations: of digit with colour and motion: those `seen` in training, those `held_out` from it, or `all`. By
        default seen for the train split, which allows nothing else, and all for the others.
      mention: the factors that a caption mentions.
      wordings: of captions and prompts: `trained` or `unseen` in training. By default unseen for the test split and
        trained for the others; the train split allows nothing else.
      truncate: probability that a prompt omits some of the caption's factors.
      reword: whether a prompt that omits nothing still has another wording than the caption.
      short_captions: whether the caption is the truncated prompt, so that a codec is trained on short captions, too.
      modalities: modalities of a sample. A training sample never has image and audio, or image and video.
      merged: allow these pairs in training, for an upper bound with all pairs.
      frames: whether an image is a random frame of a video, for a codec of images and frames.
      stills: probability that a video is one of its frames repeated, with the caption of the whole video. A tower that
        is trained with stills, too, learns to see what does not move apart from what does.
    """

    split: Split = "train"
    size: int = 20_000
    seed: int = 0
    combinations: Combinations | None = None
    mention: tuple[str, ...] = tuple(FACTORS)
    wordings: Wordings | None = None
    truncate: float = 0.3
    reword: bool = False
    short_captions: bool = False
    modalities: tuple[str, ...] = ("text", "image")
    merged: bool = False
    frames: bool = False
    stills: float = 0.0

    def __post_init__(self):
        if self.size < 1:
            raise ConfigError(f"digit_world: size must be at least 1, got {self.size}")
        for name in ("truncate", "stills"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"digit_world: {name} must be a probability, got {getattr(self, name)}")
        if unknown := [m for m in self.modalities if m not in CARRIES]:
            raise ConfigError(
                f"digit_world: unknown modality {', '.join(unknown)}; modalities are {', '.join(CARRIES)}"
            )
        if unknown := [f for f in self.mention if f not in FACTORS]:
            raise ConfigError(f"digit_world: unknown factor {', '.join(unknown)}; factors are {', '.join(FACTORS)}")
        for pair in NEVER_PAIRED:
            if self.split == "train" and not self.merged and set(pair) <= set(self.modalities):
                raise ConfigError(f"digit_world: {' and '.join(pair)} are never paired in training; see `merged`")
        if self.split == "train" and self.combinations in ("held_out", "all"):
            raise ConfigError("digit_world: the train split has combinations 'seen' only; others are held out")
        if self.split == "train" and self.wordings == "unseen":
            raise ConfigError("digit_world: the train split has wordings 'trained' only; others are for testing")


EVENTS = range(1, videos.FRAMES - 1)  # the frames that the top of a bounce may be in
_PER_MOMENT = len(EVENTS) // len(MOMENTS)


def event_frame(moment: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Picks the frame of the event [N], by its moment [N] and a uniform number [N]."""
    return EVENTS.start + moment * _PER_MOMENT + choose(u, _PER_MOMENT)


def moment_of(event: np.ndarray) -> np.ndarray:
    """The moment [N] of an event in frame [N] of `EVENTS`."""
    return (event - EVENTS.start) // _PER_MOMENT


def _prompt(way: str) -> str:
    """The name of the prompt's random variable that corresponds to `way` of the caption."""
    return way.replace("caption", "") + "prompt"


@register("digit_world", WorldConfig)
class DigitWorld:
    """A source of samples of digit_world.

    A sample is {"factors": {"digit", "colour", "motion", "voice", "moment", "event"}, "instances": {"glyph", "speaker",
    "utterance", "video glyph"}, "text": {"caption", "prompt"}, "image", "audio", "video"}: integers, strings (the
    prompt is the caption or a truncated one) and float32 in [-1, 1] of shapes [32, 32, 3], [8192] (8 kHz) and
    [8, 32, 32, 3]. The event is the frame with the top of the video's bounce, in the middle of which the audio clicks;
    it determines the moment, and is not a separate factor. Instances are those of the sample's modalities: the rows of
    `glyphs` that the image and the video show, and the speaker and the utterance of `speech` that the audio has.
    Nothing is trained on them: samples of one instance are not independent in an evaluation.
    """

    def __init__(self, config: WorldConfig | None = None):
        self.config = config = config or WorldConfig()
        self._seed = f"{config.seed}/{config.split}"
        self._allowed = {
            factor: (np.array([len(v) for v in values]), np.array([np.resize(v, 6) for v in values]))
            for factor, values in allowed(config.combinations or ("seen" if config.split == "train" else "all")).items()
        }
        self._makers = {
            "text": self._text,
            "image": self._frame if config.frames else self._image,
            "audio": self._audio,
            "video": self._video,
        }
        glyphs()  # raise an error about a missing file here and not in a data thread

    @property
    def wordings(self) -> Wordings:
        """The set of wordings of captions and prompts."""
        return self.config.wordings or ("unseen" if self.config.split == "test" else "trained")

    def __len__(self) -> int:
        return self.config.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        return jax.tree.map(lambda x: x[0], self.read([index]))

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Reads the samples `indices` [N], stacked.

        Raises:
          IndexError: an index is out of range.
        """
        index = check_indices(indices, len(self), "digit_world")
        factors = self._factors(index)
        out: dict[str, Any] = {"factors": {name: values.astype(np.int32) for name, values in factors.items()}}
        out["instances"] = self._instances(index, factors)
        for name in self.config.modalities:
            out[name] = self._makers[name](index, factors)
        return out

    def _instances(self, index: np.ndarray, factors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The instances [N] of the modalities of the source, int32."""
        out = {}
        if "image" in self.config.modalities:
            out["glyph"] = self._glyph(index, factors, "video " if self.config.frames else "")
        if "audio" in self.config.modalities:
            u = uniform(self._seed, (f"audio {audio.UTTERANCE}",), index)
            utterance = utterance_index(self.config.split, factors["digit"], factors["voice"], *u.values())
            out |= {"speaker": speech().speaker[utterance], "utterance": utterance}
        if "video" in self.config.modalities:
            out["video glyph"] = self._glyph(index, factors, "video ")
        return {name: rows.astype(np.int32) for name, rows in out.items()}

    def _glyph(self, index: np.ndarray, factors: dict[str, np.ndarray], name: str) -> np.ndarray:
        (u,) = uniform(self._seed, (name + "glyph",), index).values()
        return glyph_index(self.config.split, factors["digit"], u)

    def audio_without_click(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Waveforms [N, 8192] of samples without their click, to measure how often a detector finds one there."""
        index = np.asarray(indices, np.int64)
        return self._audio(index, {**self._factors(index), "event": np.full(len(index), np.nan)})

    def _factors(self, index: np.ndarray) -> dict[str, np.ndarray]:
        u = uniform(self._seed, tuple(FACTORS), index)
        out = {"digit": choose(u["digit"], len(DIGITS))}
        for factor, (count, values) in self._allowed.items():
            out[factor] = values[out["digit"], choose(u[factor], count[out["digit"]])]
        out["event"] = event_frame(out["moment"], uniform(self._seed, ("event",), index)["event"])
        return out

    def _text(self, index: np.ndarray, factors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = (*WAYS, "figure", "truncate", *(_prompt(way) for way in WAYS))
        draws = {name: u.tolist() for name, u in uniform(self._seed, names, index).items()}
        values = {name: factors[name].tolist() for name in FACTORS}
        say = functools.partial(caption, wordings=self.wordings)
        full, prompts = [], []
        for i in range(len(index)):
            sample, figure = {name: v[i] for name, v in values.items()}, draws["figure"][i] < 0.5
            mention = truncate(self.config.mention, draws["truncate"][i], self.config.truncate)
            full.append(say(sample, self.config.mention, {way: draws[way][i] for way in WAYS}, figure))
            same = mention == self.config.mention and not self.config.reword
            other = {way: draws[_prompt(way)][i] for way in WAYS}
            prompts.append(full[-1] if same else say(sample, mention, other, figure))
        captions = prompts if self.config.short_captions else full
        return {"caption": np.array(captions, np.str_), "prompt": np.array(prompts, np.str_)}

    def _image(self, index: np.ndarray, factors: dict[str, np.ndarray], name: str = "") -> np.ndarray:
        u = uniform(self._seed, tuple(name + x for x in ("right", "down", "scale", "angle")), index)
        right, down, scale, angle = (2 * values - 1 for values in u.values())
        brightness = warp(
            self._glyph(index, factors, name),
            shift=SHIFT * np.stack([right, down], axis=1),
            scale=1 + SCALE * scale,
            angle=ANGLE * angle,
        )
        return paint(brightness, factors["colour"])

    def _frame(self, index: np.ndarray, factors: dict[str, np.ndarray]) -> np.ndarray:
        frames = self._video(index, factors)
        return self._pick_frames(index, frames, "time")

    def _pick_frames(self, index: np.ndarray, frames: np.ndarray, name: str) -> np.ndarray:
        time = choose(uniform(self._seed, (name,), index)[name], frames.shape[1])
        return frames[np.arange(len(index)), time]

    def _video(self, index: np.ndarray, factors: dict[str, np.ndarray]) -> np.ndarray:
        videos = move(self._image(index, factors, "video "), factors["motion"], factors["event"], MOTIONS)
        if self.config.stills:
            still = uniform(self._seed, ("still",), index)["still"] < self.config.stills
            videos[still] = self._pick_frames(index, videos, "still frame")[still][:, None]
        return videos

    def _audio(self, index: np.ndarray, factors: dict[str, np.ndarray]) -> np.ndarray:
        u = uniform(self._seed, tuple(f"audio {name}" for name in audio.DRAWS), index)
        draws: dict[str, np.ndarray] = dict(zip(audio.DRAWS, u.values(), strict=True))
        seconds = (factors["event"] + 0.5) / videos.RATE
        return audio.synthesize(
            self.config.split, factors["digit"], factors["voice"], factors["motion"], seconds, draws
        )
