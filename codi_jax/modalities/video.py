"""Videos: clips [T, H, W, 3] in [-1, 1]; the vision components, with temporal layers in U-Net and CLIP tower.

The codec sees every frame by itself; time is the business of the denoiser and of the prompt encoder.
"""

import base64
import dataclasses
import io

import jax.numpy as jnp
from PIL import Image as Pillow

from codi_jax.data import files
from codi_jax.modalities.base import Shared
from codi_jax.modalities.image import Image, ImageConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoConfig(ImageConfig):
    """`config.model.modalities.video`; `frames` of `size` pixels square, `rate` a second."""

    frames: int
    rate: float


class Video(Image):
    """Media: pixels [B, T, H, W, 3] float32 in [-1, 1]. Natural value: uint8 [T, H, W, 3]."""

    name = "video"
    suffix = ".mp4"
    Config = VideoConfig
    components = Image.components | {"environment": "video_environment", "cross": "video_cross"}

    def __init__(self, config: VideoConfig, shared: Shared):
        super().__init__(config, shared)
        self.latent_shape = (config.frames, *self.latent_shape)

    def prepare(self, samples):
        return samples["video"]

    def example(self, batch):
        return jnp.zeros((batch, self.config.frames, self.config.size, self.config.size, 3))

    def values(self, samples):
        return self.outputs(samples["video"])

    def read(self, argument):
        """A video file, from its beginning: frames at the model's rate, cropped to a square and resized."""
        return files.read_video(argument, self.config.frames, self.config.rate, self.config.size)

    def write(self, value, path):
        files.write_video(path, value, self.config.rate)

    def html(self, value):
        """An animated WebP, which plays in a loop."""
        file = io.BytesIO()
        first, *rest = (Pillow.fromarray(frame) for frame in value)
        duration = round(1000 / self.config.rate)
        first.save(file, "WEBP", save_all=True, append_images=rest, duration=duration, loop=0, lossless=True)
        data = base64.b64encode(file.getvalue()).decode()
        return f'<img class="video" alt="" src="data:image/webp;base64,{data}">'
