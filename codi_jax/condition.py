"""What a user gives of an output: all of it, a part that is kept, or a value that is changed.

    Condition("a.wav")                                  all of it: it is kept, and the other outputs go with it
    Condition("clip.mp4", keep="0-0.5s")                its first half second; the rest is generated
    Condition("clip.mp4", keep="0,7")                   its first and its last frame, of eight
    Condition("photo.png", mask="mask.png")             what is black in the mask; what is white is generated
    Condition("a red seven", keep="beginning")          the words that a caption begins with
    Condition("photo.png", strength=0.6)                changed: it starts from its noise level after 40 % of the steps

What is kept is in the result as it was given, bit by bit; `sampling.held` says how the rest is generated.
"""

import dataclasses
import math
from typing import Any

from codi_jax.config import ConfigError

BEGINNING = "beginning"


@dataclasses.dataclass(frozen=True, eq=False)
class Condition:
    """What is given of an output. Value and mask are one value for all samples, or a list with one for each prompt.

    Attributes:
      value: as a prompt, see `Pipeline`.
      keep: the part that is kept: spans of time, "0-0.5s" or "0-0.2s,0.8-1s", of audio and video; numbers of frames,
        "0,5-7", of video; "beginning" of a text, which goes on behind the value. All of it if neither this nor `mask`
        nor `strength` is given.
      mask: what is generated, of an image or of all frames of a video: an image, or an array [H, W], of which what is
        brighter than half, or true, is generated.
      strength: in (0, 1], the share of the steps that are taken from the value's noise level on. Of what `keep` and
        `mask` do not keep, if they are given; 1 if they are, so that the rest starts from pure noise.
      reconstruction: scale of reconstruction guidance by the kept part, 0 for none, see `sampling.held`; of images and
        masks 10 is a good one, and costs about three times the time.

    Raises:
      ConfigError: both keep and mask, a strength or a reconstruction that is out of range, or one of nothing kept.
    """

    value: Any
    keep: str | None = None
    mask: Any = None
    strength: float | None = None
    reconstruction: float = 0.0

    def __post_init__(self):
        if self.keep is not None and self.mask is not None:
            raise ConfigError("keep and mask: give one of them")
        if self.keep == BEGINNING and self.strength is not None:
            raise ConfigError("strength: a beginning has none; leave it out")
        if self.strength is not None and not (
            isinstance(self.strength, (int, float)) and 0 < float(self.strength) <= 1
        ):
            raise ConfigError(f"strength: expected more than 0, and at most 1, got {self.strength!r}")
        if not isinstance(self.reconstruction, (int, float)) or not 0 <= float(self.reconstruction) < math.inf:
            raise ConfigError(f"reconstruction: expected a finite number of at least 0, got {self.reconstruction!r}")
        if self.reconstruction and (self.begins or not self.partial):
            raise ConfigError("reconstruction: is guidance by a part that keep or mask keeps")

    @property
    def whole(self) -> bool:
        """Whether all of the value is kept."""
        return self.keep is None and self.mask is None and self.strength is None

    @property
    def begins(self) -> bool:
        """Whether the output begins with the value, and goes on."""
        return self.keep == BEGINNING

    @property
    def partial(self) -> bool:
        """Whether a part of the value is kept."""
        return self.keep is not None or self.mask is not None
