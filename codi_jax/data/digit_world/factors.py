"""The factors of the world, which modality carries which, and the combinations kept out of training.

Digit d is never trained in colour d mod 6: ten of the sixty combinations, each digit once and each colour once or
twice. Digits 1, 3, 5 and 7 each have one motion in which they are never trained, four of the forty combinations.
Leaving them out hardly tilts the marginals, and a model that shows a green seven, or a seven moving down, has composed
it.
"""

from typing import Literal, get_args

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
MOTIONS = ("left", "right", "up", "down")
VOICES = ("low", "high")
MOMENTS = ("early", "midway", "late")  # of the bounce in a video and of the click in a sound
FACTORS = {  # name -> values; a factor of a sample is an index into them
    "digit": DIGITS,
    "colour": COLOURS,
    "motion": MOTIONS,
    "voice": VOICES,
    "moment": MOMENTS,
}
LEADING = next(iter(FACTORS))  # the one that every modality carries
CARRIES = {  # modality -> the factors it shows
    "text": ("digit", "colour", "motion", "voice", "moment"),
    "image": ("digit", "colour"),
    "audio": ("digit", "motion", "voice", "moment"),
    "video": ("digit", "colour", "motion", "moment"),
}
TIMED = ("audio", "video")  # modalities that have a time axis
NEVER_PAIRED = (("image", "audio"), ("image", "video"))  # no training sample holds both

PALETTE = np.array(  # [colour, rgb] in [0, 1]
    [[1.0, 0.1, 0.1], [0.1, 0.85, 0.15], [0.15, 0.3, 1.0], [1.0, 0.9, 0.1], [0.7, 0.15, 0.85], [1.0, 1.0, 1.0]],
    np.float32,
)

Combinations = Literal["seen", "held_out", "all"]


def held_out_colour(digit: int) -> int:
    """The one colour in which `digit` is never trained."""
    return digit % len(COLOURS)


def held_out_motion(digit: int) -> int | None:
    """The one motion in which `digit` is never trained, if there is one."""
    return digit // 2 if digit in (1, 3, 5, 7) else None


_HELD_OUT = {
    "colour": held_out_colour,
    "motion": held_out_motion,
    "voice": lambda digit: None,
    "moment": lambda digit: None,
}


def allowed(combinations: Combinations) -> dict[str, list[list[int]]]:
    """Factor -> digit -> the values it may have beside that digit.

    `held_out` takes the held-out value of every factor that has one for the digit, and any value of the others.
    """
    assert combinations in get_args(Combinations), combinations
    out = {}
    for factor, held_out in _HELD_OUT.items():
        values = range(len(FACTORS[factor]))
        out[factor] = []
        for digit in range(len(DIGITS)):
            kept_out = held_out(digit)
            if combinations == "held_out" and kept_out is not None:
                out[factor].append([kept_out])
            else:
                out[factor].append([v for v in values if combinations != "seen" or v != kept_out])
    return out
