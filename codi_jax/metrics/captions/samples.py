"""What all caption scores read: one hypothesis and one or more references for each sample, and their n-grams.

Captions are strings of tokens separated by blanks (`tokenizer.tokenize` makes them); a caption may be empty.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from codi_jax.config import ConfigError

Tokens = list[str]
Ngram = tuple[str, ...]


class Captions(NamedTuple):
    """A batch of n samples.

    Attributes:
      hypotheses: n captions.
      references: n sequences of at least one caption.
    """

    hypotheses: Sequence[str]
    references: Sequence[Sequence[str]]


class Sample(NamedTuple):
    """The tokens of one hypothesis and of its references."""

    hypothesis: Tokens
    references: list[Tokens]


def _is_list(value: object) -> bool:
    """Whether a value is a list of something: a string is a sequence, too, but of characters."""
    return hasattr(value, "__len__") and hasattr(value, "__iter__") and not isinstance(value, str | bytes)


def split_references(references: Sequence[Sequence[str]]) -> list[list[Tokens]]:
    """The tokens of the references of n samples.

    Raises:
      ConfigError: they are not lists of strings, or a list is empty.
    """
    if not _is_list(references):
        raise ConfigError(f"references: expected a list of captions for each sample, got {references!r:.60}")
    for i, captions in enumerate(references):
        if not _is_list(captions) or not len(captions) or not all(isinstance(c, str) for c in captions):
            raise ConfigError(f"references of sample {i}: expected a list of at least one string, got {captions!r:.60}")
    return [[caption.split() for caption in captions] for captions in references]


def split(batch: Captions | tuple[Sequence[str], Sequence[Sequence[str]]]) -> list[Sample]:
    """The tokens of every sample of a batch.

    Raises:
      ConfigError: the hypotheses are not strings, there is another number of references, or `split_references`.
    """
    hypotheses, references = batch
    if not _is_list(hypotheses) or not all(isinstance(h, str) for h in hypotheses):
        raise ConfigError(f"hypotheses: expected a list of strings, one for each sample, got {hypotheses!r:.60}")
    tokens = split_references(references)
    if len(hypotheses) != len(tokens):
        raise ConfigError(f"expected references of {len(hypotheses)} hypotheses, got those of {len(tokens)}")
    return [Sample(h.split(), r) for h, r in zip(hypotheses, tokens, strict=True)]


def count_ngrams(tokens: Tokens, order: int) -> Counter[Ngram]:
    """How often every n-gram of 1 to `order` tokens occurs."""
    return Counter(tuple(tokens[i : i + n]) for n in range(1, order + 1) for i in range(len(tokens) - n + 1))


def check_order(order: int) -> None:
    """Checks the largest n of n-grams.

    Raises:
      ConfigError: it is below 1.
    """
    if order < 1:
        raise ConfigError(f"order: expected n-grams of at least 1 token, got {order}")
