"""Captions of samples: templates, their vocabulary, and the parser from words back to factors.

    caption = subject (digit, colour) + clauses (motion, voice, moment) in one of several orders

A caption mentions every factor once. A truncated caption, the prompt, omits some or all of them. A digit is written as
a word or as a numeral. No template contains a word that is the value of a factor, so a caption is parsed by counting
the words of each factor.

There are two sets of wordings of the same words and phrases: each combination of an article and a subject pattern, and
each order of the clauses, is in one of them. Training uses the first set and the test split the second, so that no
caption of the test split occurs in training. The first set contains every article, every pattern, and every clause in
every position.
"""

import functools
import re
from collections.abc import Mapping
from itertools import combinations
from typing import Any, Literal, get_args

from codi_jax.data.tokenizer import VOCABULARIES
from codi_jax.digit_world.factors import FACTORS

Wordings = Literal["trained", "unseen"]

Mention = tuple[str, ...]

ARTICLES = ("a", "the", "this")
PATTERNS: dict[Mention, tuple[str, ...]] = {  # factors that a subject mentions -> patterns after the article
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
    """The subjects of one set: two of the three articles of each pattern are trained, the third is unseen."""
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
WAYS = ("caption", *CLAUSES, "order")  # the random choices of a wording

# Factor -> word -> value.
_MEANING: dict[str, dict[str, int]] = {
    factor: {word: i for i, word in enumerate(values)} for factor, values in FACTORS.items()
}
_MEANING["digit"] |= {str(i): i for i in range(len(FACTORS["digit"]))}


def vocabulary(mention: tuple[str, ...]) -> tuple[str, ...]:
    """All words of captions that mention any of these factors, sorted."""
    ways = [*ARTICLES, *(pattern for patterns in PATTERNS.values() for pattern in patterns)]
    ways += [way for factor, ways_ in CLAUSES.items() if factor in mention for way in ways_]
    words = {word for way in ways for word in way.split() if "{" not in word} | {"an"}
    return tuple(sorted(words | {word for factor in mention for word in _MEANING[factor]}))


VOCABULARY = vocabulary(tuple(FACTORS))
VOCABULARIES.add("digit_world", VOCABULARY)
VOCABULARIES.add("digit_colour", vocabulary(("digit", "colour")))


def caption(
    factors: Mapping[str, int],
    mention: tuple[str, ...],
    ways: Mapping[str, float],
    figure: bool,
    wordings: Wordings = "trained",
) -> str:
    """Writes a caption.

    Args:
      factors: factor -> value.
      mention: the factors to mention.
      ways: a number in [0, 1) for each of `WAYS`, which picks the template or the order of the clauses.
      figure: whether the digit is written as a numeral.
      wordings: the set of subjects and orders.
    """
    words = {factor: FACTORS[factor][value] for factor, value in factors.items()}
    if figure:
        words["digit"] = str(factors["digit"])

    def choose(way: str, options: tuple) -> Any:
        return options[int(ways[way] * len(options))]

    parts = [choose("caption", SUBJECTS[wordings][tuple(f for f in ("digit", "colour") if f in mention)])]
    parts += [choose(factor, CLAUSES[factor]) for factor in choose("order", ORDERS[wordings]) if factor in mention]
    return re.sub(r"\ba (8|eight)\b", r"an \1", " ".join(parts).format(**words))


@functools.lru_cache
def _smaller(mention: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All proper subsets, the largest first."""
    return [s for n in range(len(mention) - 1, -1, -1) for s in combinations(mention, n)]


def truncate(mention: tuple[str, ...], u: float, probability: float) -> tuple[str, ...]:
    """The factors that a prompt mentions: `mention`, or with `probability` a uniformly drawn proper subset.

    Args:
      mention: the factors of the whole caption.
      u: a number in [0, 1).
      probability: the probability of a proper subset.
    """
    smaller = _smaller(mention)
    if u >= probability or not smaller:
        return mention
    return smaller[int(u / probability * len(smaller))]


def parse(text: str) -> dict[str, int | None]:
    """Parses a caption: factor -> value, or None if the caption has no word for the factor, or several."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    values = {name: [meaning[w] for w in words if w in meaning] for name, meaning in _MEANING.items()}
    return {name: v[0] if len(v) == 1 else None for name, v in values.items()}


READERS = {"text": parse}  # modality -> function from a natural value to factors, where no judge network is needed
