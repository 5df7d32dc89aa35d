"""Images: pixels [H, W, 3] in [-1, 1], with a 2-D U-Net."""

import io

import numpy as np
from PIL import Image

from codi_jax.config import config_class
from codi_jax.media import files, images
from codi_jax.media.data_url import data_url
from codi_jax.media.image_files import read_image
from codi_jax.modalities.base import register
from codi_jax.modalities.pixels import PixelConfig, PixelModality


@config_class()
class ImageConfig(PixelConfig):
    """`config.model.modalities.image`."""


@register("image")
class ImageModality(PixelModality[ImageConfig]):
    """Media and raw values: see `PixelModality`, without frames."""

    name = "image"
    suffix = ".png"
    Config = ImageConfig
    components = {
        "codec": "vision_codec",
        "prompt": "clip_vision",
        "denoiser": "vision_unet",
        "environment": "image_environment",
        "cross": "image_cross",
    }

    @property
    def _frames(self):
        return ()

    @property
    def value_format(self):
        return {"size": self.config.size}

    def raw_from_user(self, value):
        """Takes an image file, an image of Pillow or uint8 [H, W, 3]; cropped to a square and resized to `read_size`.

        Resizing is bicubic.
        """
        if (pixels := self._given_pixels(value, "[H, W, 3]")) is not None:
            value = Image.fromarray(pixels)
        source = value if isinstance(value, Image.Image) else files.given_file(value)
        if source is None:
            raise self._unexpected(value, "a file, an image of Pillow or uint8 [H, W, 3]")
        return images.crop_resize(read_image(source), self.read_size, self.config.crop_seed)

    def user_from_raw(self, value):
        """An image of Pillow."""
        return Image.fromarray(value)

    def write(self, value, path):
        Image.fromarray(value).save(path)

    def preview(self, values):
        """The images in a row."""
        return np.concatenate(list(values), axis=1)

    def html(self, value):
        file = io.BytesIO()
        Image.fromarray(value).save(file, "PNG", optimize=True)
        return f'<img class="image" alt="" src="{data_url("image/png", file.getvalue())}">'
