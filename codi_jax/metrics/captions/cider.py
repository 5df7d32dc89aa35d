"""CIDEr-D: similarity of a hypothesis and its references by their rare n-grams (Vedantam, Zitnick and Parikh 2015).

With h_w the number of times that a caption has the n-gram w, d_w the number of samples of which a reference has it and
N the number of samples, the vector of a caption has the entries

    g_w(c) = h_w(c) · ( ln N - ln max(1, d_w) )                                          one vector for each n = 1 … 4

and with l the length of a caption

    S_n(c, r) = exp( -(l(c) - l(r))² / 2σ² ) · Σ_w min( g_w(c), g_w(r) ) g_w(r) / ( ‖g(c)‖ ‖g(r)‖ ),   σ = 6
    CIDEr-D   = 10 · mean_n mean_r S_n(c, r)                                                       in [0, 10]

the mean over samples, 0 where a vector is zero. As in pycocoevalcap, whose numbers these are, l is the number of
2-grams, which differs from the number of tokens where it matters only for empty captions. A hypothesis that equals its
only reference has 10 if it has an n-gram for every n that not all samples have.

A corpus of one sample has ln N = 0 and hence the score 0. Scores of corpora of different size or content are not
comparable unless their frequencies d_w and N are the same: those of a training set can be given.

The frequencies need the references of all samples before the first score. So the state is the captions themselves
(`collected`) and grows with their number. Merged, it is the state of all samples, whose numbers are exactly those of
one process that has seen all; so `scores` must be given the merged state.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.metrics.captions import collected
from codi_jax.metrics.captions.collected import CaptionBytes, CollectingMetric
from codi_jax.metrics.captions.samples import (
    Ngram,
    Sample,
    Tokens,
    check_order,
    count_ngrams,
    split_references,
)


class DocumentFrequencies(NamedTuple):
    """d_w of the n-grams of the references of N samples.

    Attributes:
      counts: n-gram -> d_w >= 1.
      number: N.
    """

    counts: Mapping[Ngram, int]
    number: int


def _frequencies(references: Sequence[Sequence[Tokens]], order: int) -> DocumentFrequencies:
    counts: Counter[Ngram] = Counter()
    for captions in references:
        counts.update({ngram for caption in captions for ngram in count_ngrams(caption, order)})
    return DocumentFrequencies(counts, len(references))


def document_frequencies(references: Sequence[Sequence[str]], order: int = 4) -> DocumentFrequencies:
    """The frequencies in the references of N samples, tokens separated by blanks, for `CiderD.frequencies`.

    Raises:
      ConfigError: see `samples.split_references`.
    """
    return _frequencies(split_references(references), order)


class _Vectors(NamedTuple):
    """Of a caption: g_w by n-gram, ‖g‖ by n, and the number of 2-grams."""

    entries: dict[Ngram, float]
    norms: list[float]
    length: int


@dataclasses.dataclass(frozen=True)
class CiderD(CollectingMetric):
    """Metric {"cider_d", "n"} of batches of `Captions`.

    Attributes:
      frequencies: of a larger corpus; None for those of the references that are evaluated.
      order: the largest n of the n-grams.
      sigma: σ, in tokens.
    """

    frequencies: DocumentFrequencies | None = None
    order: int = 4
    sigma: float = 6.0

    def __post_init__(self):
        check_order(self.order)
        if not self.sigma > 0:
            raise ConfigError(f"sigma: {self.sigma} is not positive")
        if self.frequencies is not None:
            most, number = max(self.frequencies.counts.values(), default=0), self.frequencies.number
            if number < max(1, most):
                raise ConfigError(f"frequencies: an n-gram in {most} of {number} samples, at least one")

    def compute(self, state: CaptionBytes) -> dict[str, float]:
        values = self.scores(state)
        return {"cider_d": float(values.mean()), "n": float(len(values))}

    def scores(self, state: CaptionBytes) -> np.ndarray:
        """The score of every sample, float64 [n], for a bootstrap of their mean with the frequencies held fixed."""
        samples = collected.samples_of(state)
        frequencies = self.frequencies
        if frequencies is None:
            frequencies = _frequencies([sample.references for sample in samples], self.order)
        return np.array([self._score(sample, frequencies) for sample in samples], np.float64)

    def _score(self, sample: Sample, frequencies: DocumentFrequencies) -> float:
        hypothesis = self._vectors(sample.hypothesis, frequencies)
        similarities = [self._similarity(hypothesis, self._vectors(r, frequencies)) for r in sample.references]
        return 10 * sum(similarities) / len(similarities)

    def _vectors(self, tokens: Tokens, frequencies: DocumentFrequencies) -> _Vectors:
        entries, squares, rarest = {}, [0.0] * self.order, math.log(frequencies.number)
        for ngram, count in count_ngrams(tokens, self.order).items():
            entry = count * (rarest - math.log(max(1, frequencies.counts.get(ngram, 0))))
            entries[ngram] = entry
            squares[len(ngram) - 1] += entry**2
        return _Vectors(entries, [math.sqrt(s) for s in squares], max(0, len(tokens) - 1))

    def _similarity(self, a: _Vectors, b: _Vectors) -> float:
        """mean_n S_n of a hypothesis a and a reference b."""
        products = [0.0] * self.order
        for ngram, entry in a.entries.items():
            other = b.entries.get(ngram, 0.0)
            products[len(ngram) - 1] += min(entry, other) * other
        norms = (x * y for x, y in zip(a.norms, b.norms, strict=True))
        cosines = [product / norm if norm else 0.0 for product, norm in zip(products, norms, strict=True)]
        return math.exp(-((a.length - b.length) ** 2) / (2 * self.sigma**2)) * sum(cosines) / self.order
