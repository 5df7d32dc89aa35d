"""VGGish as a feature network: a row for every 0.96 s of audio, before the last ReLU (`encoders.vggish`).

Audio is resampled to 16 kHz by FFmpeg's filter and padded with silence to one patch of 0.975 s if it is shorter.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from codi_jax.encoders.vggish import VGGishConfig
from codi_jax.evaluation.networks import Features, in_chunks, register
from codi_jax.evaluation.samples import Content
from codi_jax.evaluation.settings import Settings
from codi_jax.evaluation.videos import seconds_of
from codi_jax.evaluation.weights import open_weights
from codi_jax.interop.vggish import WEIGHTS
from codi_jax.media.files import read_audio
from codi_jax.media.vggish_mel import RATE, SAMPLES, vggish_patches


class VGGishFeatures:
    """See `FeatureNetwork`.

    Args:
      weights: a file, a directory of `codi-jax convert`, or "random", "random:d".
      settings: of the measurement.

    Raises:
      ConfigError: the weights cannot be read, or are others.
    """

    modalities = ("audio",)
    features = ("embedding",)
    joint = False

    def __init__(self, weights: str, settings: Settings):
        self.identity, self._apply = open_weights(WEIGHTS, weights, _divided, settings.seed)
        self.options = {"seconds": settings.seconds}
        self._seconds, self._size = settings.seconds, settings.batch_size

    def read(self, modality: str, content: Content) -> np.ndarray:
        """Patches [P, 96, 64]."""
        length = round(min(seconds_of(content), self._seconds) * RATE)
        return vggish_patches(read_audio(content, max(length, SAMPLES), RATE)[None], RATE)[0]

    def __call__(self, modality: str, inputs: Sequence[Any]) -> Features:
        rows = in_chunks(self._apply, np.concatenate(inputs), self._size)
        return {"embedding": np.split(rows, np.cumsum([len(x) for x in inputs])[:-1])}


def _divided(divisor: int) -> VGGishConfig:
    """The published sizes, divided."""
    full = VGGishConfig()
    *channels, hidden, embedding = (max(1, size // divisor) for size in (*full.channels, full.hidden, full.embedding))
    return VGGishConfig(tuple(channels), hidden, embedding)


@register("vggish")
def open_vggish(weights: str, settings: Settings) -> VGGishFeatures:
    """Opens the network."""
    return VGGishFeatures(weights, settings)
