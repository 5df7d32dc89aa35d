"""The factors of the world, which modality carries which, and the combinations kept out of training.

Digit d is never trained in colour d mod 6: ten of the sixty combinations, each digit once and each colour once or
twice, so that leaving them out hardly tilts the marginals, and a model that shows a green seven has composed it.
"""

from typing import Literal, get_args

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
FACTORS = {"digit": DIGITS, "colour": COLOURS}  # name -> values; a factor of a sample is an index into them
CARRIES = {"text": ("digit", "colour"), "image": ("digit", "colour")}  # modality -> the factors it shows

PALETTE = np.array(  # [colour, rgb] in [0, 1]
    [[1.0, 0.1, 0.1], [0.1, 0.85, 0.15], [0.15, 0.3, 1.0], [1.0, 0.9, 0.1], [0.7, 0.15, 0.85], [1.0, 1.0, 1.0]],
    np.float32,
)

Combinations = Literal["seen", "held_out", "all"]


def held_out_colour(digit: int) -> int:
    """The one colour in which `digit` is never trained."""
    return digit % len(COLOURS)


def colours_of(combinations: Combinations) -> np.ndarray:
    """The colours that each digit may have: int64 [10, n], n = 5 (seen), 1 (held_out) or 6 (all)."""
    assert combinations in get_args(Combinations), combinations
    keep = {"seen": lambda d, c: c != held_out_colour(d), "held_out": lambda d, c: c == held_out_colour(d)}
    allowed = keep.get(combinations, lambda d, c: True)
    return np.array([[c for c in range(len(COLOURS)) if allowed(d, c)] for d in range(len(DIGITS))])
