"""VGGish as a feature network: a row for every 0.96 s of audio, before the last ReLU (`encoders.vggish`).

Audio is resampled to 16 kHz by FFmpeg's filter and padded with silence to one patch of 0.975 s if it is shorter.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from codi_jax.encoders.vggish import VGGish, VGGishConfig
from codi_jax.evaluation.networks import (
    Features,
    identity_of,
    in_chunks,
    random_divisor,
    random_parameters,
    register,
)
from codi_jax.evaluation.samples import Content
from codi_jax.evaluation.settings import Settings
from codi_jax.evaluation.videos import seconds_of
from codi_jax.interop.vggish import load_vggish, vggish_shapes
from codi_jax.media.files import read_audio
from codi_jax.media.vggish_mel import RATE, SAMPLES, vggish_patches


class VGGishFeatures:
    """See `FeatureNetwork`.

    Args:
      weights: a file, or "random", "random:d".
      settings: of the measurement.

    Raises:
      ConfigError: the file cannot be read, or holds other weights.
    """

    modalities = ("audio",)
    features = ("embedding",)
    joint = False

    def __init__(self, weights: str, settings: Settings):
        if (divisor := random_divisor(weights)) is None:
            config, params = VGGishConfig(), load_vggish(weights)
            self.identity = identity_of(weights)
        else:
            full = VGGishConfig()
            sizes = (*full.channels, full.hidden, full.embedding)
            *channels, hidden, embedding = (max(1, size // divisor) for size in sizes)
            config = VGGishConfig(tuple(channels), hidden, embedding)
            params = random_parameters(vggish_shapes(config), settings.seed)
            self.identity = f"{weights}, seed {settings.seed}"
        self.options = {"seconds": settings.seconds}
        self._seconds, self._size = settings.seconds, settings.batch_size
        self._params = jax.device_put(params)
        model = VGGish(config)
        self._apply = jax.jit(lambda params, x: model.apply({"params": params}, x))

    def read(self, modality: str, content: Content) -> np.ndarray:
        """Patches [P, 96, 64]."""
        length = round(min(seconds_of(content), self._seconds) * RATE)
        return vggish_patches(read_audio(content, max(length, SAMPLES), RATE)[None], RATE)[0]

    def __call__(self, modality: str, inputs: Sequence[Any]) -> Features:
        rows = in_chunks(lambda x: self._apply(self._params, x), np.concatenate(inputs), self._size)
        return {"embedding": np.split(rows, np.cumsum([len(x) for x in inputs])[:-1])}


@register("vggish")
def open_vggish(weights: str, settings: Settings) -> VGGishFeatures:
    """Opens the network."""
    return VGGishFeatures(weights, settings)
