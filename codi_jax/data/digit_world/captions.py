"""What is said about a sample: templates, the vocabulary they use, and the way back from words to factors.

A caption mentions every factor once; a truncated caption, the prompt, leaves some or all of them out, and says nothing
false about them. A digit is mentioned as a word or as a figure. No template holds a word that could be taken for a
factor's value, so a caption is parsed by counting the words of each factor.
"""

import re
from collections.abc import Mapping
from itertools import combinations

from codi_jax.data.digit_world.factors import COLOURS, DIGITS, FACTORS

TEMPLATES: dict[tuple[str, ...], tuple[str, ...]] = {  # the factors that are mentioned -> ways to do it
    ("digit", "colour"): (
        "a {colour} {digit}",
        "the digit {digit} in {colour}",
        "a {digit} painted {colour}",
        "the {colour} number {digit}",
        "a {digit} in {colour} ink",
        "this {digit} is {colour}",
    ),
    ("digit",): ("a {digit}", "the digit {digit}", "the number {digit}"),
    ("colour",): ("something {colour}", "a {colour} digit", "a digit painted {colour}", "a number in {colour} ink"),
    (): ("a digit", "something", "a number"),
}
SUBSETS = tuple(s for n in range(len(FACTORS), -1, -1) for s in combinations(FACTORS, n))  # all of them first

# Each factor's words, and the value that they mean.
_MEANING: dict[str, dict[str, int]] = {
    "digit": {w: i for i, w in enumerate(DIGITS)} | {str(i): i for i in range(len(DIGITS))},
    "colour": {w: i for i, w in enumerate(COLOURS)},
}
VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        {w for meaning in _MEANING.values() for w in meaning}
        | {w for ways in TEMPLATES.values() for way in ways for w in way.split() if "{" not in w}
        | {"an"}
    )
)


def caption(factors: Mapping[str, int], mention: tuple[str, ...], way: float, figure: bool) -> str:
    """One caption.

    Args:
      factors: the sample's.
      mention: the factors to mention, one of `SUBSETS`.
      way: in [0, 1), chooses the template.
      figure: whether the digit is written as a figure.
    """
    ways = TEMPLATES[mention]
    digit, colour = factors["digit"], factors["colour"]
    said = ways[int(way * len(ways))].format(digit=digit if figure else DIGITS[digit], colour=COLOURS[colour])
    return re.sub(r"\ba (8|eight)\b", r"an \1", said)


def truncate(u: float, probability: float) -> tuple[str, ...]:
    """The factors that a prompt mentions: all, or with `probability` an equally likely smaller subset; u in [0, 1)."""
    if u >= probability:
        return SUBSETS[0]
    return SUBSETS[1 + int(u / probability * (len(SUBSETS) - 1))]


def parse(text: str) -> dict[str, int | None]:
    """Reads the factors out of a caption: factor -> value, None where no word, or more than one, speaks of it."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    found = {name: [meaning[w] for w in words if w in meaning] for name, meaning in _MEANING.items()}
    return {name: values[0] if len(values) == 1 else None for name, values in found.items()}


READERS = {"text": parse}  # modality -> natural value to its factors, for what is read rather than judged
