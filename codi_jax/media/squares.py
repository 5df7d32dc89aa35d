"""What an upload is before it is decoded, and images as squares of one size: what a decoder's process answers."""

import numpy as np
from PIL import Image

from codi_jax.media.files import MediaFile, check_pixels
from codi_jax.media.image_files import read_image, use_image
from codi_jax.media.images import BICUBIC, crop_resize
from codi_jax.media.metadata import probe


def measure(file: MediaFile) -> np.ndarray:
    """Width and height in pixels and length in seconds, float64 [3], by the file's header; 0 for what it lacks.

    Raises:
      MediaError: the file is not a media file.
    """
    found = probe(file)
    return np.array([found.get(name, 0.0) for name in ("width", "height", "seconds")])


def read_square(file: MediaFile, size: int) -> np.ndarray:
    """The centre square of an image, resized: uint8 [size, size, 3].

    Raises:
      MediaError: see `image_files.read_image`.
    """
    return crop_resize(read_image(file), size)


def read_opacity(file: MediaFile, size: int) -> np.ndarray:
    """The opacity of the centre square of an image, uint8 [size, size]: 255 where it is painted over.

    Raises:
      MediaError: see `image_files.read_image`.
    """
    opacity = use_image(file, lambda image: _opacity(image, file.name))
    side = min(opacity.size)
    left, top = (opacity.width - side) // 2, (opacity.height - side) // 2
    return np.asarray(opacity.crop((left, top, left + side, top + side)).resize((size, size), BICUBIC))


def _opacity(image: Image.Image, name: str) -> Image.Image:
    check_pixels(image.width, image.height, name)
    return image.convert("RGBA").getchannel("A")
