"""The factors of a sample, which modality shows which, and the combinations held out from training.

Digit d never has colour d mod 6 in training: ten of the sixty combinations, each digit once and each colour once or
twice. Digits 1, 3, 5 and 7 each have one held-out motion: four of the forty combinations. This hardly changes the
marginal distributions, and a model that generates a held-out combination has composed it.
"""

from typing import Literal, get_args

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
MOTIONS = ("left", "right", "up", "down")
VOICES = ("low", "high")
MOMENTS = ("early", "midway", "late")  # of the bounce in a video and of the click in audio
FACTORS = {  # name -> values; a sample holds indices into them
    "digit": DIGITS,
    "colour": COLOURS,
    "motion": MOTIONS,
    "voice": VOICES,
    "moment": MOMENTS,
}
LEADING = next(iter(FACTORS))  # the one factor that every modality shows
CARRIES = {  # modality -> the factors it shows
    "text": ("digit", "colour", "motion", "voice", "moment"),
    "image": ("digit", "colour"),
    "audio": ("digit", "motion", "voice", "moment"),
    "video": ("digit", "colour", "motion", "moment"),
}
INSTANCES = {  # modality -> what its value is made of that other samples share: a handwritten glyph or a speaker
    "image": "glyph",
    "audio": "speaker",
    "video": "video glyph",
}
TIMED = ("audio", "video")  # modalities that have a time axis
NEVER_PAIRED = (("image", "audio"), ("image", "video"))  # no training sample has both

PALETTE = np.array(  # [colour, rgb] in [0, 1]
    [[1.0, 0.1, 0.1], [0.1, 0.85, 0.15], [0.15, 0.3, 1.0], [1.0, 0.9, 0.1], [0.7, 0.15, 0.85], [1.0, 1.0, 1.0]],
    np.float32,
)

Combinations = Literal["seen", "held_out", "all"]


def held_out_colour(digit: int) -> int:
    """The colour that `digit` never has in training."""
    return digit % len(COLOURS)


def held_out_motion(digit: int) -> int | None:
    """The motion that `digit` never has in training, or None."""
    return digit // 2 if digit in (1, 3, 5, 7) else None


_HELD_OUT = {
    "colour": held_out_colour,
    "motion": held_out_motion,
    "voice": lambda digit: None,
    "moment": lambda digit: None,
}


def allowed(combinations: Combinations) -> dict[str, list[list[int]]]:
    """Factor -> digit -> the values that the factor may have with that digit.

    With `held_out`, a factor that has a held-out value for the digit takes that value; the other factors take any.
    """
    assert combinations in get_args(Combinations), combinations
    out = {}
    for factor, held_out in _HELD_OUT.items():
        values = range(len(FACTORS[factor]))
        out[factor] = []
        for digit in range(len(DIGITS)):
            excluded = held_out(digit)
            if combinations == "held_out" and excluded is not None:
                out[factor].append([excluded])
            else:
                out[factor].append([v for v in values if combinations != "seen" or v != excluded])
    return out
