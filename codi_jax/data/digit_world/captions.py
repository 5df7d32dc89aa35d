"""What is said about a sample: templates, the vocabulary they use, and the way back from words to factors.

    caption = subject (digit, colour) + clauses (motion, voice, moment) in one of several orders

A caption mentions every factor once; a truncated caption, the prompt, leaves some or all of them out, and says nothing
false about them. A digit is mentioned as a word or as a figure. No template holds a word that could be taken for a
factor's value, so a caption is parsed by counting the words of each factor.

There are two sets of wordings, made of the same words and phrases: each article with each pattern of a subject, and
each order of the clauses, is in one of them. Training has those of the first, and the test split speaks in those of
the second, so a model that reads a test caption cannot have met it before. Every article, every pattern, and every
clause in every place, are in the first.
"""

import functools
import re
from collections.abc import Mapping
from itertools import combinations
from typing import Any, Literal, get_args

from codi_jax.data.digit_world.factors import FACTORS

Wordings = Literal["trained", "unseen"]

Mention = tuple[str, ...]

ARTICLES = ("a", "the", "this")
PATTERNS: dict[Mention, tuple[str, ...]] = {  # the factors that a subject mentions -> ways to do it after an article
    ("digit", "colour"): (
        "{colour} {digit}",
        "{colour} digit {digit}",
        "{colour} number {digit}",
        "digit {digit} in {colour}",
        "number {digit} in {colour}",
        "{digit} in {colour} ink",
        "{digit} painted {colour}",
        "digit {digit} painted {colour}",
        "number {digit} painted {colour}",
    ),
    ("digit",): ("{digit}", "digit {digit}", "number {digit}"),
    ("colour",): ("{colour} digit", "{colour} number", "digit in {colour}", "number in {colour} ink"),
    (): ("digit", "number"),
}


def _subjects(wordings: Wordings) -> dict[Mention, tuple[str, ...]]:
    """Two of three articles of each pattern are trained, another one of each pattern is not."""
    return {
        mention: tuple(
            f"{article} {pattern}"
            for i, pattern in enumerate(patterns)
            for j, article in enumerate(ARTICLES)
            if ((i + j) % len(ARTICLES) == len(ARTICLES) - 1) == (wordings == "unseen")
        )
        for mention, patterns in PATTERNS.items()
    }


SUBJECTS: dict[Wordings, dict[Mention, tuple[str, ...]]] = {w: _subjects(w) for w in get_args(Wordings)}
ORDERS: dict[Wordings, tuple[tuple[str, ...], ...]] = {  # of the clauses
    "trained": (("motion", "voice", "moment"), ("voice", "moment", "motion"), ("moment", "motion", "voice")),
    "unseen": (("motion", "moment", "voice"), ("moment", "voice", "motion"), ("voice", "motion", "moment")),
}
CLAUSES: dict[str, tuple[str, ...]] = {
    "motion": ("moving {motion}", "going {motion}"),
    "voice": ("with a {voice} voice", "and a {voice} voice"),
    "moment": ("bouncing {moment}", "bounces {moment}"),
}
WAYS = ("caption", *CLAUSES, "order")  # the choices that word a caption

# Each factor's words, and the value that they mean.
_MEANING: dict[str, dict[str, int]] = {
    factor: {word: i for i, word in enumerate(values)} for factor, values in FACTORS.items()
}
_MEANING["digit"] |= {str(i): i for i in range(len(FACTORS["digit"]))}


def vocabulary(mention: tuple[str, ...]) -> tuple[str, ...]:
    """All words of captions that mention these factors (and of those that leave some out), in order."""
    ways = [*ARTICLES, *(pattern for patterns in PATTERNS.values() for pattern in patterns)]
    ways += [way for factor, ways_ in CLAUSES.items() if factor in mention for way in ways_]
    words = {word for way in ways for word in way.split() if "{" not in word} | {"an"}
    return tuple(sorted(words | {word for factor in mention for word in _MEANING[factor]}))


VOCABULARY = vocabulary(tuple(FACTORS))


def caption(
    factors: Mapping[str, int],
    mention: tuple[str, ...],
    ways: Mapping[str, float],
    figure: bool,
    wordings: Wordings = "trained",
) -> str:
    """One caption.

    Args:
      factors: the sample's.
      mention: the factors to mention.
      ways: a number in [0, 1) for each of `WAYS`, which chooses its template, or the order of the clauses.
      figure: whether the digit is written as a figure.
      wordings: whose subjects and orders.
    """
    words = {factor: FACTORS[factor][value] for factor, value in factors.items()}
    if figure:
        words["digit"] = str(factors["digit"])

    def choose(what: str, among: tuple) -> Any:
        return among[int(ways[what] * len(among))]

    parts = [choose("caption", SUBJECTS[wordings][tuple(f for f in ("digit", "colour") if f in mention)])]
    parts += [choose(factor, CLAUSES[factor]) for factor in choose("order", ORDERS[wordings]) if factor in mention]
    return re.sub(r"\ba (8|eight)\b", r"an \1", " ".join(parts).format(**words))


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
