"""Agreement of pairs of samples by the cosine of their embeddings: CLIPSIM, CLIPScore and the CLAP score.

With u_i and v_i the embeddings of the two sides of pair i at unit length, or their means over the T frames of a video,

    cosine     = mean_i u_i·v_i                                      of frames: the mean over frames of the cosine
    shuffled   = mean_{i≠j} u_i·v_j = ( Σ_i u_i · Σ_j v_j - Σ_i u_i·v_i ) / (n (n - 1))
    CLIPScore  = w mean_i max( u_i·v_i, 0 ),  w = 2.5

`shuffled` is exact, the mean over all derangements, from sums of one embedding's size. Unrelated pairs have a cosine
far from 0, by which much of a score is explained; what agreement adds is `cosine - shuffled`. If several samples have
one prompt, some shuffled pairs do agree.

| measure | u | v | source |
|---|---|---|---|
| CLIPSIM | CLIP's embedding of images [n, D] or of frames [n, T, D] | CLIP's of captions | GODIVA, arXiv 2104.14806 |
| CLIPScore | CLIP's embedding of images | CLIP's of captions | Hessel et al., arXiv 2104.08718 |
| CLAP score | CLAP's embedding of audio | CLAP's of captions | AudioLDM 2, arXiv 2308.05734, and others |

CLIPScore prefixes captions with "A photo depicts". All have no unit; papers print CLIPSIM of ViT-B/32 as here and
some 100 times it. Numbers of different encoders must not be compared.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from codi_jax.metrics.intervals import standard_error

CLIP_SCORE = 2.5  # w


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings at unit length, float64 [n, D]; of frames [n, T, D] the mean over frames, which is shorter.

    Raises:
      ValueError: another rank, or an embedding that is zero or not finite.
    """
    x = np.asarray(embeddings, np.float64)
    if x.ndim not in (2, 3) or not all(x.shape[1:]):
        raise ValueError(f"expected embeddings [n, D], or of frames [n, T, D], got shape {x.shape}")
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    bad = ~(np.isfinite(length) & (length > 0)).reshape(len(x), -1).all(1)
    if bad.any():
        raise ValueError(f"the embedding of sample {int(bad.argmax())} is zero or not finite")
    x = x / length
    return x.mean(1) if x.ndim == 3 else x


def _unit_pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u, v = unit(a), unit(b)
    if u.shape != v.shape:
        raise ValueError(f"expected as many embeddings of one size on both sides, got {u.shape} and {v.shape}")
    return u, v


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine of each pair, float64 [n].

    Args:
      a: [n, D], or [n, T, D] of frames, over which the cosine is averaged.
      b: likewise.

    Raises:
      ValueError: shapes that do not fit, or an embedding that is zero or not finite.
    """
    u, v = _unit_pairs(a, b)
    return (u * v).sum(-1)


class CosineSums(NamedTuple):
    """Sums over pairs, float64.

    Attributes:
      number: n, [].
      total: Σ u·v, [].
      square: Σ (u·v)², [].
      positive: Σ max(u·v, 0), [].
      first: Σ u, [D].
      second: Σ v, [D].
    """

    number: np.ndarray
    total: np.ndarray
    square: np.ndarray
    positive: np.ndarray
    first: np.ndarray
    second: np.ndarray


@dataclasses.dataclass(frozen=True)
class PairedCosine:
    """Metric {"cosine", "shuffled", "standard_error", "n"} of batches of pairs ([n, D] or [n, T, D], the same).

    The standard error is that of the mean over independent pairs; it and `shuffled` are NaN of a single pair.

    Attributes:
      size: D.
      clip_score: also give {"clip_score"}; 2.5 · `shuffled` is a lower bound of its shuffled control, and equal to it
        if no cosine is negative.
    """

    size: int
    clip_score: bool = False

    def init(self) -> CosineSums:
        zero = np.zeros(())
        return CosineSums(zero, zero, zero, zero, np.zeros(self.size), np.zeros(self.size))

    def update(self, state: CosineSums, batch: tuple[np.ndarray, np.ndarray]) -> CosineSums:
        u, v = _unit_pairs(*batch)
        if u.shape[1] != self.size:
            raise ValueError(f"expected embeddings of size {self.size}, got {u.shape[1]}")
        c = (u * v).sum(-1)
        number = np.array(float(len(c)))
        new = CosineSums(number, c.sum(), np.square(c).sum(), np.maximum(c, 0).sum(), u.sum(0), v.sum(0))
        return self.merge(state, new)

    def merge(self, a: CosineSums, b: CosineSums) -> CosineSums:
        return CosineSums(*(x + y for x, y in zip(a, b, strict=True)))

    def compute(self, state: CosineSums) -> dict[str, float]:
        n, total = float(state.number), float(state.total)
        if not n:
            raise ValueError("no pairs to measure a cosine of")
        mean, pairs = total / n, n * (n - 1)
        return {
            "cosine": mean,
            "shuffled": (float(state.first @ state.second) - total) / pairs if pairs else np.nan,
            "standard_error": standard_error(n, mean, float(state.square)),
            "n": n,
            **({"clip_score": CLIP_SCORE * float(state.positive) / n} if self.clip_score else {}),
        }
