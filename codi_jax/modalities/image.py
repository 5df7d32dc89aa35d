"""Images: pixels [H, W, 3] in [-1, 1], with a 2-D U-Net."""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image as Pillow

from codi_jax.media import files, images
from codi_jax.modalities.pixels import PixelConfig, PixelModality


@dataclasses.dataclass(frozen=True)
class ImageConfig(PixelConfig):
    """`config.model.modalities.image`."""


class Image(PixelModality[ImageConfig]):
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

    def read(self, argument):
        """Reads an image file, cropped to a square and resized (bicubic) to `read_size`."""
        return images.crop_resize(files.read_image(argument), self.read_size, self.config.crop_seed)

    def write(self, value, path):
        Pillow.fromarray(value).save(path)

    def preview(self, values):
        """The images in a row."""
        return np.concatenate(list(values), axis=1)

    def html(self, value):
        file = io.BytesIO()
        Pillow.fromarray(value).save(file, "PNG", optimize=True)
        data = base64.b64encode(file.getvalue()).decode()
        return f'<img class="image" alt="" src="data:image/png;base64,{data}">'
