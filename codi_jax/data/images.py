"""Pictures as the networks are shown them, after the public CoDi release; numpy and Pillow only, for reading threads.

    codec     uint8 v → 2 v/255 − 1 in float32
    CLIP      x in [−1, 1] → ⌊255 (x + 1)/2⌋ in float32 → shortest side to `size` → middle → (v/255 − mean) / std

The floor loses a level on 63 of the 256 values, since x has been rounded. Pictures are resized by Pillow's bicubic
filter (fixed point, a = −½, widened when it shrinks); frames of a clip as PyTorch resizes tensors, by cubic convolution
with a = −¾, or with a = −½, widened and its weights normed (the later default):

    W(s) = (a + 2)|s|³ − (a + 3)|s|² + 1  for |s| ≤ 1,      a|s|³ − 5a|s|² + 8a|s| − 4a  for 1 < |s| < 2

at positions (j + ½)·n/m − ½. The result is rounded to uint8, so that both are equal to the release's to the last level.
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
    """How CLIP's pixels are normalised: mean and standard deviation of red, green and blue in [0, 1]."""

    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)


def crop_resize(picture: Image.Image, size: int, seed: int | None = None) -> np.ndarray:
    """A square of a picture, resized (bicubic, antialiased) to uint8 [size, size, 3].

    Args:
      picture: of any mode and shape.
      size: side in pixels.
      seed: None takes the middle. The release takes any place and mirrors every other picture; with a seed both are
        drawn from it and the picture's size, so that the same picture always gives the same.
    """
    side = min(picture.size)
    left, top, mirror = (picture.width - side) // 2, (picture.height - side) // 2, False
    if seed is not None:
        rng = np.random.default_rng([seed, *picture.size])
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        mirror = rng.random() < 0.5
    picture = picture.convert("RGB").crop((left, top, left + side, top + side))
    pixels = np.asarray(picture.resize((size, size), BICUBIC) if side != size else picture)
    return pixels[:, ::-1].copy() if mirror else pixels


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's bicubic resize of uint8 [..., H, W, 3] to [..., height, width, 3]."""
    flat = pixels.reshape(-1, *pixels.shape[-3:])
    out = np.stack([np.asarray(Image.fromarray(x).resize((width, height), BICUBIC)) for x in flat])
    return out.reshape(*pixels.shape[:-3], height, width, pixels.shape[-1])


def center_crop(pixels: np.ndarray) -> np.ndarray:
    """The middle square of [..., H, W, C], half a pixel right of and below the centre where it cannot be exact."""
    height, width = pixels.shape[-3:-1]
    side = min(height, width)
    top, left = -((side - height) // 2), -((side - width) // 2)
    return pixels[..., top : top + side, left : left + side, :]


@functools.lru_cache(maxsize=32)
def cubic_weights(length: int, target: int, antialias: bool) -> np.ndarray:
    """The matrix [target, length] that resizes a line, float64, read-only; see the module for both kinds."""
    a, scale = (-0.5 if antialias else -0.75), length / target
    widen = max(scale, 1.0) if antialias else 1.0
    position = (np.arange(target) + 0.5) * scale - 0.5
    # Taps reach two pixels, or two of the widened ones, to both sides. The nearest pixel stands for one beyond an end,
    # unless weights are normed: then what lies outside is left out.
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
    """Frames uint8 [..., H, W, 3] to [..., size, size, 3], as torchvision resizes tensors.

    Without `antialias` as its versions of the release's time (0.13) do, with it as later ones do by default.
    """
    height, width = frames.shape[-3:-1]
    out = np.einsum("ph,...hwc->...pwc", cubic_weights(height, size, antialias), frames.astype(np.float64))
    out = np.einsum("qw,...pwc->...pqc", cubic_weights(width, size, antialias), out)
    return np.clip(np.round(out), 0, 255).astype(np.uint8)


Resize = Literal["pillow", "torch", "torch_antialias"]


def frame_shaper(size: int, how: Resize, seed: int | None = None) -> Callable[[Image.Image], np.ndarray]:
    """The function from a video frame to uint8 [size, size, 3]: `crop_resize`, or the release's crop and resize."""
    if how == "pillow":
        return lambda picture: crop_resize(picture, size, seed)
    antialias = how == "torch_antialias"
    return lambda picture: resize_frames(center_crop(np.asarray(picture.convert("RGB"))), size, antialias)


def to_float(pixels: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [−1, 1], in the release's order of operations: v/255, then ·2 − 1."""
    return np.asarray(pixels).astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)


def clip_pixels(pixels: np.ndarray, size: int, normal: CLIPPixels = CLIPPixels()) -> np.ndarray:
    """Pictures as a CLIP tower takes them.

    Args:
      pixels: [..., H, W, 3] float32 in [−1, 1], of any sides.
      size: side of the result, the tower's.
      normal: mean and standard deviation of the tower's training.

    Returns:
      [..., size, size, 3], float32: the middle of the picture whose shortest side became `size`.
    """
    pixels = np.asarray(pixels, np.float32)
    levels = np.clip((pixels + np.float32(1)) / np.float32(2) * np.float32(255), 0, 255).astype(np.uint8)
    short = min(levels.shape[-3:-1])
    height, width = (int(size * side / short) for side in levels.shape[-3:-1])
    top, left = (height - size) // 2, (width - size) // 2
    levels = resize(levels, height, width)[..., top : top + size, left : left + size, :]
    mean, std = np.asarray(normal.mean, np.float32), np.asarray(normal.std, np.float32)
    return (levels.astype(np.float32) / np.float32(255) - mean) / std
