"""Image preprocessing of the public CoDi release, in numpy and Pillow only, so that data threads can run it.

    codec     uint8 v → 2 v/255 − 1 in float32
    CLIP      x in [−1, 1] → ⌊255 (x + 1)/2⌋ in float32 → shortest side to `size` → center crop → (v/255 − mean) / std

The floor loses one level on 63 of the 256 values, since x has been rounded. Images are resized with Pillow's bicubic
filter (fixed point, a = −½, antialiased); video frames as PyTorch resizes tensors: by cubic convolution with a = −¾, or
antialiased with a = −½ and normalized weights (the later default):

    W(s) = (a + 2)|s|³ − (a + 3)|s|² + 1  for |s| ≤ 1,      a|s|³ − 5a|s|² + 8a|s| − 4a  for 1 < |s| < 2

at positions (j + ½)·n/m − ½. The result is rounded to uint8. Both equal the release's output exactly.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image

BICUBIC = Image.Resampling.BICUBIC


@dataclasses.dataclass(frozen=True)
class CLIPPixels:
    """CLIP's pixel normalization: mean and standard deviation of red, green and blue in [0, 1]."""

    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)


def crop_resize(image: Image.Image, size: int, seed: int | None = None) -> np.ndarray:
    """Crops an image to a square and resizes it (bicubic, antialiased) to uint8 [size, size, 3].

    Args:
      image: of any mode and shape.
      size: side in pixels.
      seed: None takes the center crop. The release crops at random and mirrors with probability ½; with a seed, both
        are drawn from the seed and the image's size, so that the same image always gives the same result.
    """
    side = min(image.size)
    left, top, mirror = (image.width - side) // 2, (image.height - side) // 2, False
    if seed is not None:
        rng = np.random.default_rng([seed, *image.size])
        left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
        mirror = rng.random() < 0.5
    image = image.convert("RGB").crop((left, top, left + side, top + side))
    pixels = np.asarray(image.resize((size, size), BICUBIC) if side != size else image)
    return pixels[:, ::-1].copy() if mirror else pixels


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes uint8 [..., H, W, 3] to [..., height, width, 3] with Pillow's bicubic filter."""
    flat = pixels.reshape(-1, *pixels.shape[-3:])
    out = np.stack([np.asarray(Image.fromarray(x).resize((width, height), BICUBIC)) for x in flat])
    return out.reshape(*pixels.shape[:-3], height, width, pixels.shape[-1])


def center_crop(pixels: np.ndarray) -> np.ndarray:
    """The center square of [..., H, W, C]; for an odd margin, half a pixel right of and below the center."""
    height, width = pixels.shape[-3:-1]
    side = min(height, width)
    top, left = -((side - height) // 2), -((side - width) // 2)
    return pixels[..., top : top + side, left : left + side, :]


@functools.lru_cache(maxsize=32)
def cubic_weights(length: int, target: int, antialias: bool) -> np.ndarray:
    """The matrix [target, length] of a 1-D cubic resize, float64, read-only; see the module docstring."""
    a, scale = (-0.5 if antialias else -0.75), length / target
    widen = max(scale, 1.0) if antialias else 1.0
    position = (np.arange(target) + 0.5) * scale - 0.5
    # The filter reaches two (widened) pixels to both sides. Positions outside the line take the nearest pixel, or, with
    # antialiasing, are left out and the weights normalized.
    reach = int(np.ceil(2 * widen))
    taps = np.floor(position).astype(int)[:, None] + np.arange(-reach, reach + 2)
    s = np.abs(taps - position[:, None]) / widen
    near, far = ((a + 2) * s - (a + 3)) * s**2 + 1, ((a * s - 5 * a) * s + 8 * a) * s - 4 * a
    weights = np.where(s <= 1, near, np.where(s < 2, far, 0.0))
    if antialias:
        weights = np.where((taps >= 0) & (taps < length), weights, 0.0)
        weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((target, length))
    np.add.at(matrix, (np.arange(target)[:, None], np.clip(taps, 0, length - 1)), weights)
    matrix.setflags(write=False)
    return matrix


def resize_frames(frames: np.ndarray, size: int, antialias: bool = False) -> np.ndarray:
    """Resizes frames uint8 [..., H, W, 3] to [..., size, size, 3], as torchvision resizes tensors.

    Without `antialias` as in torchvision 0.13, which the release used; with it as in the default of later versions.
    """
    height, width = frames.shape[-3:-1]
    out = np.einsum("ph,...hwc->...pwc", cubic_weights(height, size, antialias), frames.astype(np.float64))
    out = np.einsum("qw,...pwc->...pqc", cubic_weights(width, size, antialias), out)
    return np.clip(np.round(out), 0, 255).astype(np.uint8)


Resize = Literal["pillow", "torch", "torch_antialias"]


def frame_shaper(size: int, how: Resize, seed: int | None = None) -> Callable[[Image.Image], np.ndarray]:
    """The function from a video frame to uint8 [size, size, 3]: `crop_resize`, or the release's crop and resize."""
    if how == "pillow":
        return lambda image: crop_resize(image, size, seed)
    antialias = how == "torch_antialias"
    return lambda image: resize_frames(center_crop(np.asarray(image.convert("RGB"))), size, antialias)


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Converts uint8 to float32 in [−1, 1], in the release's order of operations: v/255, then ·2 − 1."""
    return np.asarray(pixels).astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)


def clip_pixels(pixels: np.ndarray, size: int, normal: CLIPPixels = CLIPPixels()) -> np.ndarray:
    """Preprocesses images for a CLIP tower.

    Args:
      pixels: [..., H, W, 3] float32 in [−1, 1], of any size.
      size: S, the side of the tower's input.
      normal: mean and standard deviation of the tower's training data.

    Returns:
      [..., S, S, 3], float32: the center crop of the image, resized so that its shortest side is S.
    """
    pixels = np.asarray(pixels, np.float32)
    levels = np.clip((pixels + np.float32(1)) / np.float32(2) * np.float32(255), 0, 255).astype(np.uint8)
    short = min(levels.shape[-3:-1])
    height, width = (int(size * side / short) for side in levels.shape[-3:-1])
    top, left = (height - size) // 2, (width - size) // 2
    levels = resize(levels, height, width)[..., top : top + size, left : left + size, :]
    mean, std = np.asarray(normal.mean, np.float32), np.asarray(normal.std, np.float32)
    return (levels.astype(np.float32) / np.float32(255) - mean) / std
