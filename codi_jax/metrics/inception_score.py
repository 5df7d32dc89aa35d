"""Inception score (Salimans et al., arXiv 1606.03498): classes that are certain for a sample and even over samples.

With p_i the distribution over C classes that a classifier gives to sample i, q = mean_i p_i and H the entropy in nats,

    IS = exp( mean_i KL(p_i ‖ q) ) = exp( H(q) - mean_i H(p_i) )          from 1 to C, no units; more is better

The field's classifier is `encoders.inception`, whose logits [n, 1008] are taken without bias. Real samples are not
looked at, and copies of one sample of each class have the highest score. The score of few samples is too low: compare
equal numbers (50,000 in the paper).

The paper means the score of 10 consecutive splits (`inception_score`), each of which has a tenth of the samples and a
lower score; Barratt and Sharma (arXiv 1801.01973) advise against it. The metric has the score of all samples, whose
state is the number of samples, Σ_i p_i and Σ_i H(p_i), and merges exactly.

    compute(InceptionScore(1008), batches_of_logits)                        # {"inception_score", "n"}
    inception_score_interval(logits)                                        # bootstrap of the same
"""

import dataclasses
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from codi_jax.metrics.bootstrap import BootstrapInterval, interval, resample_counts, to_draw_from
from codi_jax.metrics.rows import blocks, check_features

_BLOCK = 4096  # samples whose probabilities are computed at a time


class ClassSums(NamedTuple):
    """Sums over samples, float64.

    Attributes:
      number: of samples, [] or [R].
      probabilities: Σ_i p_i, [C] or [R, C].
      entropies: Σ_i H(p_i), [] or [R].
    """

    number: np.ndarray
    probabilities: np.ndarray
    entropies: np.ndarray

    def score(self) -> np.ndarray:
        """IS, [] or [R]."""
        q = self.probabilities / self.number[..., None]
        return np.exp(_entropy(q) - self.entropies / self.number)


def _entropy(p: np.ndarray) -> np.ndarray:
    """H of distributions [..., C], with 0 ln 0 = 0."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)


def _probabilities(batch: np.ndarray, logits: bool, classes: int | None = None) -> np.ndarray:
    """p, float64 [n, C].

    Raises:
      ValueError: another shape, or probabilities that are negative or do not sum to 1.
    """
    kind = "logits" if logits else "probabilities"
    x = check_features(batch, name=kind, least=1, size=classes).astype(np.float64)
    if logits:
        p = np.exp(x - x.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True)
    if (x < 0).any() or np.abs(x.sum(1) - 1).max() > 1e-3:
        raise ValueError("expected probabilities, at least 0 and with a sum of 1 per sample; for logits: logits=True")
    return x


def _sums(p: np.ndarray) -> ClassSums:
    return ClassSums(np.array(float(len(p))), p.sum(0), np.array(_entropy(p).sum()))


@dataclasses.dataclass(frozen=True)
class InceptionScore:
    """Metric {"inception_score", "n"} of batches of logits, or of probabilities, [n, C].

    Attributes:
      classes: C, 1008 for the field's classifier.
      logits: whether batches are logits, not probabilities.
    """

    classes: int = 1008
    logits: bool = True

    def init(self) -> ClassSums:
        return ClassSums(np.zeros(()), np.zeros(self.classes), np.zeros(()))

    def update(self, state: ClassSums, batch: np.ndarray) -> ClassSums:
        return self.merge(state, _sums(_probabilities(batch, self.logits, self.classes)))

    def merge(self, a: ClassSums, b: ClassSums) -> ClassSums:
        return ClassSums(*(np.asarray(x + y) for x, y in zip(a, b, strict=True)))

    def compute(self, state: ClassSums) -> dict[str, float]:
        if not state.number:
            raise ValueError("no samples to score")
        return {"inception_score": float(state.score()), "n": float(state.number)}


def inception_score(
    batch: np.ndarray, splits: int = 10, logits: bool = True, seed: int | None = None
) -> dict[str, float]:
    """Mean and standard deviation of the score over consecutive splits, as the paper has it.

    Args:
      batch: logits, or probabilities, [n, C].
      splits: their number; split s has the samples from ⌊s n / splits⌋ to ⌊(s + 1) n / splits⌋.
      logits: whether the batch is logits, not probabilities.
      seed: of a permutation of the samples before they are split, which samples in the order of their classes need;
        none if None.

    Returns:
      {"inception_score", "inception_score_std", "n"}.

    Raises:
      ValueError: another shape, or fewer samples than splits.
    """
    n = len(batch)
    if not 1 <= splits <= n:
        raise ValueError(f"expected 1 to n = {n} splits, got {splits}")
    order = np.arange(n) if seed is None else np.random.default_rng(seed).permutation(n)
    edges = [s * n // splits for s in range(splits + 1)]
    scores = []
    for start, stop in pairwise(edges):
        scores.append(float(_sums(_probabilities(batch[order[start:stop]], logits)).score()))
    return {
        "inception_score": float(np.mean(scores)),
        "inception_score_std": float(np.std(scores)),
        "n": float(n),
    }


def inception_score_interval(
    batch: np.ndarray,
    logits: bool = True,
    *,
    clusters: np.ndarray | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    centre: bool = True,
) -> BootstrapInterval:
    """The score of all samples with its bootstrap interval.

    Memory: 2 R n bytes, and R · C numbers.

    Args:
      batch: logits, or probabilities, [n, C]; may be a memory map.
      logits: whether the batch is logits, not probabilities.
      clusters: of the samples, int [n]; independent if None.
      resamples: R.
      level: probability of the interval.
      seed: of the draws.
      centre: subtract the bias, see `metrics.bootstrap`; the score of a resample is lower.

    Raises:
      ValueError: another shape, or clusters of another number of samples.
    """
    drawn = to_draw_from(batch, clusters)
    (counts,) = resample_counts(drawn, resamples=resamples, seed=seed)
    whole, sums, entropies = None, 0.0, 0.0
    for rows in blocks(len(batch), _BLOCK):
        p = _probabilities(batch[rows], logits)
        part = _sums(p)
        whole = part if whole is None else ClassSums(*(np.asarray(x + y) for x, y in zip(whole, part, strict=True)))
        w = counts[:, rows].astype(np.float64)
        sums, entropies = sums + w @ p, entropies + w @ _entropy(p)
    assert whole is not None  # there is a sample, or no resample could be drawn
    resampled = ClassSums(counts.sum(1, dtype=np.float64), np.asarray(sums), np.asarray(entropies))
    return interval(float(whole.score()), resampled.score(), drawn, level=level, centre=centre)
