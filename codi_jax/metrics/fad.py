"""Fréchet audio distance (Kilgour et al., arXiv 1812.08466): `frechet.distance` between embeddings of audio.

    FAD = ‖μ_g - μ_r‖² + tr( Σ_g + Σ_r - 2 (Σ_g^½ Σ_r Σ_g^½)^½ )               g generated, r reference

    patches = vggish_patches(waves, rate)                                      # [B, P, 96, 64]
    metric = FrechetAudioDistance(moments(reference_embeddings))
    compute(metric, [VGGish().apply({"params": params}, patches)])             # embeddings [B, P, 128]

Every patch of 0.96 s of VGGish is one row, of all waveforms together, as in AudioLDM's evaluation and fadtk. With
embeddings of CLAP (`encoders.clap`) one waveform is one row; on PANNs' 2048 features the same distance is the "FD" of
AudioLDM's evaluation. Distances of different embeddings, preprocessing or reference sets must not be compared.

The distance has no unit. It is biased upwards for few rows, the more so the more features there are, so compare equal
numbers of rows, which stand beside it: `n` of generated audio, and `reference_n`.
"""

import dataclasses

import numpy as np

from codi_jax.metrics import frechet
from codi_jax.metrics.frechet import Moments, moments

__all__ = ["FrechetAudioDistance", "Moments", "moments"]


def rows(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [n, F] of waveforms or [B, P, F] of their patches as rows [n, F].

    Raises:
      ValueError: another rank, no rows, or a value that is not finite.
    """
    x = np.asarray(embeddings)
    if x.ndim not in (2, 3) or not x.size:
        raise ValueError(f"expected embeddings [n, F] or [B, P, F] with at least one row, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("an embedding is not finite")
    return x.reshape(-1, x.shape[-1])


@dataclasses.dataclass(frozen=True)
class FrechetAudioDistance:
    """Metric {"frechet_audio_distance", "n", "reference_n"} of batches of embeddings [n, F] or [B, P, F].

    Attributes:
      reference: moments of the reference's embeddings, of `moments` or a state of this metric.
    """

    reference: Moments

    def init(self) -> Moments:
        size = len(self.reference.mean)
        return Moments(np.zeros(()), np.zeros(size), np.zeros((size, size)))

    def update(self, state: Moments, batch: np.ndarray) -> Moments:
        x = rows(batch)
        if x.shape[1] != len(self.reference.mean):
            raise ValueError(f"embeddings of {x.shape[1]} features, but {len(self.reference.mean)} in the reference")
        return frechet.merge(state, moments(x))

    def merge(self, a: Moments, b: Moments) -> Moments:
        return frechet.merge(a, b)

    def compute(self, state: Moments) -> dict[str, float]:
        return {
            "frechet_audio_distance": frechet.distance(frechet.gaussian(state), frechet.gaussian(self.reference)),
            "n": float(state.number),
            "reference_n": float(self.reference.number),
        }
