"""Sound and video that are arrays already, cut, mixed and resized as the readers of files do."""

import dataclasses

import numpy as np
from PIL import Image

from codi_jax.media.files import MAX_PIXELS, MAX_RATE, MediaError, fit_waveform
from codi_jax.media.images import crop_resize


@dataclasses.dataclass(frozen=True)
class Waveform:
    """Sound.

    Attributes:
      samples: [N] or [N, C]; floats in [-1, 1], or integers, whose full scale is that of int8, int16 or int32 if they
        are of that type, and of int16 if they are of int64, as in TensorFlow Datasets.
      rate: samples per second.
    """

    samples: np.ndarray
    rate: int

    def read(self, samples: int, rate: int) -> np.ndarray:
        """As `files.read_audio`."""
        values = np.asarray(self.samples)
        if values.ndim not in (1, 2) or not values.size:
            raise MediaError("empty" if not values.size else "value", f"a waveform of shape {list(values.shape)}")
        if not 0 < self.rate <= MAX_RATE:
            raise MediaError("value", f"a waveform of {self.rate} samples a second")
        if values.dtype.kind not in "if":
            raise MediaError("value", f"a waveform of {values.dtype}")
        length = -(-samples * self.rate // rate) + self.rate // 10  # the resampling filter looks ahead
        wave = values[:length].astype(np.float32)
        if values.dtype.kind != "f":
            wave /= 2.0 ** (8 * values.dtype.itemsize - 1 if values.dtype.itemsize in (1, 4) else 15)
        if not np.isfinite(wave).all():
            raise MediaError("numbers", "the audio has NaN or infinite samples")
        return fit_waveform(wave if wave.ndim == 1 else wave.mean(1), self.rate, samples, rate)


@dataclasses.dataclass(frozen=True)
class Frames:
    """Video: uint8 [T, H, W, 3], or [T, H, W, 1] of greys, and frames per second."""

    pixels: np.ndarray
    rate: float

    def read(self, frames: int, rate: float, size: int) -> np.ndarray:
        """As `files.read_video`."""
        if not len(self.pixels) or not self.rate > 0:
            raise MediaError("empty", f"a video of {len(self.pixels)} frames, {self.rate:g} a second")
        shown = np.minimum(np.floor(np.arange(frames) / rate * self.rate + 1e-6).astype(int), len(self.pixels) - 1)
        shaped = {index: crop_resize(picture(self.pixels[index]), size) for index in sorted(set(shown.tolist()))}
        return np.stack([shaped[index] for index in shown.tolist()])


def picture(pixels: np.ndarray) -> Image.Image:
    """uint8 [H, W, 3], [H, W, 4], or [H, W, 1] of greys, as an image."""
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise MediaError("value", f"an image of {pixels.dtype} {list(pixels.shape)}, not of uint8 [H, W, 1, 3 or 4]")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise MediaError("large", f"{pixels.shape[1]}x{pixels.shape[0]} is over {MAX_PIXELS} pixels")
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
