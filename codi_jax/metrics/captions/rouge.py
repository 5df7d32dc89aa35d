"""ROUGE-L: the longest common subsequence of a hypothesis and its references (Lin 2004), as in the COCO captions task.

With L(h, r) the length of the longest common subsequence of the tokens, |h| and |r| the numbers of tokens,

    P = max_r L(h, r) / |h|        R = max_r L(h, r) / |r|        ROUGE-L = (1 + β²) P R / (R + β² P),   β = 1.2

and 0 if L is 0 for all references; in [0, 1]. The two maxima are taken separately, and the score of the corpus is the
mean over samples, as in pycocoevalcap. There an empty caption counts as one empty token, so also here: an empty
hypothesis scores 0 unless a reference is empty, too.

`scores` gives the number of every sample, for a bootstrap of their mean.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.metrics.captions.samples import Captions, Sample, Tokens, split

BETA = 1.2


class ScoreSum(NamedTuple):
    """Number of samples [] and the sum of their scores [], float64."""

    number: np.ndarray
    total: np.ndarray


def common_length(a: Tokens, b: Tokens) -> int:
    """The length of the longest common subsequence, in time |a| · |b|."""
    row = [0] * (len(b) + 1)  # of the tokens of a so far, and every beginning of b
    for x in a:
        above, left = 0, 0  # the entry before in the last row, and in this one
        for j, y in enumerate(b, 1):
            above, left = row[j], above + 1 if x == y else max(row[j], left)
            row[j] = left
    return row[-1]


def _score(sample: Sample) -> float:
    hypothesis = sample.hypothesis or [""]
    references = [reference or [""] for reference in sample.references]
    lengths = [common_length(hypothesis, reference) for reference in references]
    if not any(lengths):
        return 0.0
    precision = max(lengths) / len(hypothesis)
    recall = max(length / len(reference) for length, reference in zip(lengths, references, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def scores(batch: Captions) -> np.ndarray:
    """ROUGE-L of every sample, float64 [n].

    Raises:
      ConfigError: see `samples.split`.
    """
    return np.array([_score(sample) for sample in split(batch)], np.float64)


@dataclasses.dataclass(frozen=True)
class RougeL:
    """Metric {"rouge_l", "n"} of batches of `Captions`."""

    def init(self) -> ScoreSum:
        return ScoreSum(np.zeros(()), np.zeros(()))

    def update(self, state: ScoreSum, batch: Captions) -> ScoreSum:
        values = scores(batch)
        return self.merge(state, ScoreSum(np.array(float(len(values))), values.sum()))

    def merge(self, a: ScoreSum, b: ScoreSum) -> ScoreSum:
        return ScoreSum(np.asarray(a.number + b.number), np.asarray(a.total + b.total))

    def compute(self, state: ScoreSum) -> dict[str, float]:
        if not state.number:
            raise ConfigError("no captions to score")
        return {"rouge_l": float(state.total / state.number), "n": float(state.number)}
