"""BLEU: the n-grams of the hypotheses that occur in their references, over the whole corpus (Papineni et al. 2002).

With c_n the number of n-grams of a hypothesis that occur in a reference, each counted at most as often as in that
reference in which it is most frequent, g_n the number of its n-grams, l its length and r the length of the reference
whose length is closest to l (of two, the shorter), all summed over the corpus,

    p_n    = (Σ c_n + 1e-15) / (Σ g_n + 1e-9)                  q = (Σ l + 1e-15) / (Σ r + 1e-9)
    BLEU_n = ( Π_{k ≤ n} p_k )^(1/n) · min( 1, exp(1 - 1/q) )                                          in [0, 1]

The two constants, which avoid a division by zero and make the score 0 where nothing is counted, are those of
pycocoevalcap, whose numbers these are. BLEU is often printed times 100. The score of the corpus is not the mean of the
scores of its samples: one of few words without a common 4-gram has BLEU_4 near 0.

All the corpus needs of a sample is its row of counts, so that a bootstrap over samples sums rows:

    rows = statistics(samples)                                   # int64 [n, 2·order + 2]
    draws = np.random.default_rng(0).integers(len(rows), size=(1000, len(rows)))
    scores(rows[draws].sum(1))                                   # [1000, order]
"""

import dataclasses
from collections import Counter
from typing import NamedTuple

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.metrics.captions.samples import Captions, Sample, check_order, count_ngrams, split

TINY, SMALL = 1e-15, 1e-9


class BleuCounts(NamedTuple):
    """Number of samples [], and the sum of their rows of counts [2·order + 2] (`statistics`), int64."""

    number: np.ndarray
    counts: np.ndarray


def _row(sample: Sample, order: int) -> list[int]:
    """The counts of one sample."""
    most: Counter[tuple[str, ...]] = Counter()
    for reference in sample.references:
        most |= count_ngrams(reference, order)  # the larger count
    common = [0] * order
    for ngram, count in count_ngrams(sample.hypothesis, order).items():
        common[len(ngram) - 1] += min(count, most[ngram])
    length = len(sample.hypothesis)
    closest = min((abs(len(reference) - length), len(reference)) for reference in sample.references)[1]
    return [*common, *(max(0, length - n) for n in range(order)), length, closest]


def statistics(batch: Captions, order: int = 4) -> np.ndarray:
    """The counts of every sample: c_1 … c_order, g_1 … g_order, l, r, int64 [n, 2·order + 2].

    Raises:
      ConfigError: see `samples.split`.
    """
    rows = [_row(sample, order) for sample in split(batch)]
    return np.array(rows, np.int64).reshape(len(rows), 2 * order + 2)


def scores(counts: np.ndarray) -> np.ndarray:
    """BLEU_1 … BLEU_order [..., order] of counts [..., 2·order + 2], of samples or summed over corpora."""
    order = counts.shape[-1] // 2 - 1
    common, total, (length, closest) = counts[..., :order], counts[..., order:-2], np.moveaxis(counts[..., -2:], -1, 0)
    logs = np.cumsum(np.log((common + TINY) / (total + SMALL)), -1) / np.arange(1, order + 1)
    ratio = (length + TINY) / (closest + SMALL)
    return np.exp(logs + np.minimum(0, 1 - 1 / ratio)[..., None])


@dataclasses.dataclass(frozen=True)
class Bleu:
    """Metric {"bleu_1", …, "bleu_order", "length_ratio", "n"} of batches of `Captions`; `length_ratio` is q.

    Attributes:
      order: the largest n of the n-grams.
    """

    order: int = 4

    def __post_init__(self):
        check_order(self.order)

    def init(self) -> BleuCounts:
        return BleuCounts(np.zeros((), np.int64), np.zeros(2 * self.order + 2, np.int64))

    def update(self, state: BleuCounts, batch: Captions) -> BleuCounts:
        rows = statistics(batch, self.order)
        return self.merge(state, BleuCounts(np.array(len(rows)), rows.sum(0)))

    def merge(self, a: BleuCounts, b: BleuCounts) -> BleuCounts:
        return BleuCounts(np.asarray(a.number + b.number), a.counts + b.counts)

    def compute(self, state: BleuCounts) -> dict[str, float]:
        if not state.number:
            raise ConfigError("no captions to score")
        values = scores(state.counts)
        return {
            **{f"bleu_{n}": float(value) for n, value in enumerate(values, 1)},
            "length_ratio": float((state.counts[-2] + TINY) / (state.counts[-1] + SMALL)),
            "n": float(state.number),
        }
