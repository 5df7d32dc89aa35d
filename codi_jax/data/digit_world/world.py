"""The world as a source of samples: everything about sample i is a function of (seed, split, i)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data.digit_world.captions import caption, truncate
from codi_jax.data.digit_world.draws import choose, uniform
from codi_jax.data.digit_world.factors import CARRIES, DIGITS, Combinations, colours_of
from codi_jax.data.digit_world.glyphs import Split, glyph_index, glyphs
from codi_jax.data.digit_world.pictures import paint, warp

SHIFT, SCALE, ANGLE = 2.0, 0.1, np.deg2rad(10)  # pixels, fraction, radians: the largest a picture is off the glyph


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """Which samples.

    Attributes:
      split: whose glyphs: train, judge, val or test.
      size: the number of samples.
      seed: worlds of different seeds are independent.
      combinations: of digit and colour: those `seen` in training, those `held_out` from it, or `all`. By default seen
        for the train split and all for the others; the train split has no others.
      truncate: the probability that a prompt leaves something out of the caption.
      short_captions: whether the caption itself is the truncated one, so that a codec learns to say less, too.
      modalities: what a sample holds.
    """

    split: Split = "train"
    size: int = 20_000
    seed: int = 0
    combinations: Combinations | None = None
    truncate: float = 0.3
    short_captions: bool = False
    modalities: tuple[str, ...] = tuple(CARRIES)

    def __post_init__(self):
        if self.size < 1:
            raise ConfigError(f"digit_world: size must be at least 1, got {self.size}")
        if not 0 <= self.truncate <= 1:
            raise ConfigError(f"digit_world: truncate is a probability, got {self.truncate}")
        if unknown := [m for m in self.modalities if m not in CARRIES]:
            raise ConfigError(f"digit_world: no modality {', '.join(unknown)}; there are {', '.join(CARRIES)}")
        if self.split == "train" and self.combinations in ("held_out", "all"):
            raise ConfigError("digit_world: the train split has combinations 'seen' only; the others are held out")


class DigitWorld:
    """A random-access source of samples.

    A sample is {"factors": {"digit", "colour"}, "text": {"caption", "prompt"}, "image"}: integers, strings (the prompt
    is the caption, now and then truncated) and float32 [32, 32, 3] in [-1, 1]. `read` gives many at once, stacked.
    """

    def __init__(self, config: WorldConfig = WorldConfig()):
        self.config = config
        self._seed = f"{config.seed}/{config.split}"
        self._colours = colours_of(config.combinations or ("seen" if config.split == "train" else "all"))
        glyphs()  # a missing file is an error here, not in a reading thread

    def __len__(self) -> int:
        return self.config.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        return jax.tree.map(lambda x: x[0], self.read([index]))

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Samples `indices` [N], stacked: int32 [N], strings [N] and float32 [N, 32, 32, 3]."""
        index = np.asarray(indices, np.int64)
        if index.size and (index.min() < 0 or index.max() >= len(self)):
            raise IndexError(f"digit_world has samples 0 to {len(self) - 1}, asked for {index.min()} to {index.max()}")
        digit, colour = self._factors(index)
        out: dict[str, Any] = {"factors": {"digit": digit.astype(np.int32), "colour": colour.astype(np.int32)}}
        if "text" in self.config.modalities:
            out["text"] = self._text(index, digit, colour)
        if "image" in self.config.modalities:
            out["image"] = self._image(index, digit, colour)
        return out

    def _factors(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = uniform(self._seed, ("digit", "colour"), index)
        digit = choose(u["digit"], len(DIGITS))
        return digit, self._colours[digit, choose(u["colour"], self._colours.shape[1])]

    def _text(self, index: np.ndarray, digit: np.ndarray, colour: np.ndarray) -> dict[str, np.ndarray]:
        u = uniform(self._seed, ("caption", "figure", "truncate", "prompt"), index)
        full, prompts = [], []
        for d, c, way, figure, cut, other in zip(
            *(x.tolist() for x in (digit, colour, u["caption"], u["figure"], u["truncate"], u["prompt"])), strict=True
        ):
            factors = {"digit": d, "colour": c}
            mention = truncate(cut, self.config.truncate)
            full.append(caption(factors, tuple(factors), way, figure < 0.5))
            whole = len(mention) == len(factors)
            prompts.append(full[-1] if whole else caption(factors, mention, other, figure < 0.5))
        captions = prompts if self.config.short_captions else full
        return {"caption": np.array(captions, np.str_), "prompt": np.array(prompts, np.str_)}

    def _image(self, index: np.ndarray, digit: np.ndarray, colour: np.ndarray) -> np.ndarray:
        u = uniform(self._seed, ("glyph", "right", "down", "scale", "angle"), index)
        off = {name: 2 * values - 1 for name, values in u.items()}
        brightness = warp(
            glyph_index(self.config.split, digit, u["glyph"]),
            shift=SHIFT * np.stack([off["right"], off["down"]], axis=1),
            scale=1 + SCALE * off["scale"],
            angle=ANGLE * off["angle"],
        )
        return paint(brightness, colour)
