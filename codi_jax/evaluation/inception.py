"""Inception-v3 of FID as a feature network: pool features and logits of images, and of the frames of videos.

An image is resized to 299 × 299 as TensorFlow 1 does, whatever its shape, without cropping (`encoders.inception`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from codi_jax.encoders.inception import InceptionConfig, interpolation_matrix, scale_pixels
from codi_jax.evaluation.networks import Features, in_chunks, register
from codi_jax.evaluation.samples import Content
from codi_jax.evaluation.settings import Settings
from codi_jax.evaluation.videos import read_frames
from codi_jax.evaluation.weights import open_weights
from codi_jax.interop.inception import WEIGHTS
from codi_jax.media.image_files import read_image

CONVENTION = "tensorflow"


class InceptionFeatures:
    """See `FeatureNetwork`. Of a video there is a row for each of its first frames, at its own rate.

    Args:
      weights: a file, a directory of `codi-jax convert`, or "random", "random:d".
      settings: of the measurement.

    Raises:
      ConfigError: the weights cannot be read, or are others.
    """

    modalities = ("image", "video")
    features = ("pool", "logits")
    joint = False

    def __init__(self, weights: str, settings: Settings):
        opened = open_weights(WEIGHTS, weights, lambda divisor: InceptionConfig(divisor=divisor), settings.seed)
        self.identity, self._apply = opened
        self.options = {"resize": CONVENTION, "frames": settings.frames}
        self._size, self._frames = settings.batch_size, settings.frames

    def read(self, modality: str, content: Content) -> np.ndarray:
        """Pixels [299, 299, 3], or [T, 299, 299, 3] of a video, in [-1, 1]."""
        if modality == "video":
            return np.stack([_resized(frame) for frame in read_frames(content, self._frames)])
        return _resized(np.asarray(read_image(content)))

    def __call__(self, modality: str, inputs: Sequence[Any]) -> Features:
        x = np.stack(inputs)
        out = in_chunks(self._apply, x.reshape(-1, *x.shape[-3:]), self._size)
        lead = x.shape[:-3]
        return {name: list(rows.reshape(*lead, -1)) for name, rows in zip(self.features, out, strict=True)}


def _resized(pixels: np.ndarray) -> np.ndarray:
    """The network's input of one image, uint8 [H, W, 3] -> float32 [299, 299, 3]."""
    rows, columns = (interpolation_matrix(side, CONVENTION) for side in pixels.shape[:2])
    x = pixels.astype(np.float32)
    x = np.tensordot(rows, x, 1)  # [299, W, 3]
    return scale_pixels(np.moveaxis(np.tensordot(columns, x, (1, 1)), 0, 1), CONVENTION)


@register("inception")
def open_inception(weights: str, settings: Settings) -> InceptionFeatures:
    """Opens the network."""
    return InceptionFeatures(weights, settings)
