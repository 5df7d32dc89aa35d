"""Sound and video that are arrays already, cut, mixed and resized as the readers of files do."""

import dataclasses

import numpy as np
from PIL import Image

from codi_jax.media import files
from codi_jax.media.audio import Audio, beginning
from codi_jax.media.files import MediaError
from codi_jax.media.images import crop_resize


def read_waveform(audio: Audio, samples: int, rate: int) -> np.ndarray:
    """As `files.read_audio`, from [L] or [L, C] of floats or integers."""
    values = np.asarray(audio.samples)
    if values.ndim not in (1, 2) or not values.size:
        raise MediaError("empty" if not values.size else "value", f"a waveform of shape {list(values.shape)}")
    if not 0 < audio.rate <= files.MAX_RATE:
        raise MediaError("value", f"a waveform of {audio.rate} samples a second")
    if values.dtype.kind not in "if":
        raise MediaError("value", f"a waveform of {values.dtype}")
    wave = beginning(Audio(values, audio.rate), samples, rate)
    if not np.isfinite(wave).all():
        raise MediaError("numbers", "the audio has NaN or infinite samples")
    return files.fit_waveform(wave, audio.rate, samples, rate)


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


def seconds(value: "Audio | Frames") -> float:
    """The length in seconds."""
    length = np.shape(value.samples if isinstance(value, Audio) else value.pixels)[:1]
    return length[0] / value.rate if length and value.rate > 0 else 0.0


def from_second(value: "Audio | Frames", start: float) -> "Audio | Frames":
    """What is left from second `start` on."""
    first = round(start * value.rate)
    if isinstance(value, Audio):
        return Audio(value.samples[first:], value.rate)
    return Frames(value.pixels[first:], value.rate)


def picture(pixels: np.ndarray) -> Image.Image:
    """uint8 [H, W, 3], [H, W, 4], or [H, W, 1] of greys, as an image."""
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise MediaError("value", f"an image of {pixels.dtype} {list(pixels.shape)}, not of uint8 [H, W, 1, 3 or 4]")
    files.check_pixels(pixels.shape[1], pixels.shape[0], "an array")
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
