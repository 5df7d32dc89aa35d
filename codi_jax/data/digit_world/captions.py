"""What is said about a sample: templates, the vocabulary they use, and the way back from words to factors.

    caption = subject (digit, colour) + motion clause + voice clause

A caption mentions every factor once; a truncated caption, the prompt, leaves some or all of them out, and says nothing
false about them. A digit is mentioned as a word or as a figure. No template holds a word that could be taken for a
factor's value, so a caption is parsed by counting the words of each factor.
"""

import functools
import re
from collections.abc import Mapping
from itertools import combinations

from codi_jax.data.digit_world.factors import FACTORS

SUBJECTS: dict[tuple[str, ...], tuple[str, ...]] = {  # the factors that are mentioned -> ways to do it
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
CLAUSES: dict[str, tuple[str, ...]] = {
    "motion": ("moving {motion}", "going {motion}"),
    "voice": ("with a {voice} voice", "and a {voice} voice"),
}
WAYS = ("caption", *CLAUSES)  # the choices that word a caption

# Each factor's words, and the value that they mean.
_MEANING: dict[str, dict[str, int]] = {
    factor: {word: i for i, word in enumerate(values)} for factor, values in FACTORS.items()
}
_MEANING["digit"] |= {str(i): i for i in range(len(FACTORS["digit"]))}


def vocabulary(mention: tuple[str, ...]) -> tuple[str, ...]:
    """All words of captions that mention these factors (and of those that leave some out), in order."""
    ways = [way for ways in SUBJECTS.values() for way in ways]
    ways += [way for factor, ways_ in CLAUSES.items() if factor in mention for way in ways_]
    words = {word for way in ways for word in way.split() if "{" not in word} | {"an"}
    return tuple(sorted(words | {word for factor in mention for word in _MEANING[factor]}))


VOCABULARY = vocabulary(tuple(FACTORS))


def caption(factors: Mapping[str, int], mention: tuple[str, ...], ways: Mapping[str, float], figure: bool) -> str:
    """One caption.

    Args:
      factors: the sample's.
      mention: the factors to mention.
      ways: a number in [0, 1) for each of `WAYS`, which chooses its template.
      figure: whether the digit is written as a figure.
    """
    words = {factor: FACTORS[factor][value] for factor, value in factors.items()}
    if figure:
        words["digit"] = str(factors["digit"])

    def say(what: str, templates: tuple[str, ...]) -> str:
        return templates[int(ways[what] * len(templates))].format(**words)

    parts = [say("caption", SUBJECTS[tuple(f for f in ("digit", "colour") if f in mention)])]
    parts += [say(factor, templates) for factor, templates in CLAUSES.items() if factor in mention]
    return re.sub(r"\ba (8|eight)\b", r"an \1", " ".join(parts))


@functools.lru_cache
def _smaller(mention: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All proper subsets, the large ones first."""
    return [s for n in range(len(mention) - 1, -1, -1) for s in combinations(mention, n)]


def truncate(mention: tuple[str, ...], u: float, probability: float) -> tuple[str, ...]:
    """The factors that a prompt mentions: all of `mention`, or with `probability` an equally likely smaller subset.

    Args:
      mention: what the whole caption mentions.
      u: a number in [0, 1).
      probability: of leaving something out.
    """
    smaller = _smaller(mention)
    if u >= probability or not smaller:
        return mention
    return smaller[int(u / probability * len(smaller))]


def parse(text: str) -> dict[str, int | None]:
    """Reads the factors out of a caption: factor -> value, None where no word, or more than one, speaks of it."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    found = {name: [meaning[w] for w in words if w in meaning] for name, meaning in _MEANING.items()}
    return {name: values[0] if len(values) == 1 else None for name, values in found.items()}


READERS = {"text": parse}  # modality -> natural value to its factors, for what is read rather than judged
