"""Videos: clips [T, H, W, 3] in [-1, 1]; the vision components, with temporal layers in U-Net and CLIP tower.

The codec sees every frame by itself; time is the business of the denoiser and of the prompt encoder.
"""

import base64
import dataclasses
import io

from PIL import Image as Pillow

from codi_jax.data import files
from codi_jax.data.images import Resize, frame_shaper
from codi_jax.modalities.base import Shared
from codi_jax.modalities.image import Image, ImageConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoConfig(ImageConfig):
    """`config.model.modalities.video`; `frames` of `size` pixels square, `rate` a second.

    Attributes:
      frames: at most as many as the temporal layers know positions (30 in the release).
      rate: a second.
      resize: of a file's frames: `pillow`, the middle square by Pillow's bicubic filter; `torch`, the release's middle
        and the filter of its torchvision (0.13); `torch_antialias`, that of later ones.
    """

    frames: int
    rate: float
    resize: Resize = "pillow"


class Video(Image):
    """Media: as a picture's, pixels [B, T, H, W, 3]. Natural value: uint8 [T, H, W, 3]."""

    name = "video"
    suffix = ".mp4"
    Config = VideoConfig
    components = Image.components | {"environment": "video_environment", "cross": "video_cross"}

    def __init__(self, config: VideoConfig, shared: Shared):
        super().__init__(config, shared)
        self._require(config.frames > 0, f".frames: {config.frames} frames are no clip")
        for part, sizes in (("denoiser", config.denoiser), ("environment", config.environment)):
            self._require(
                not sizes.temporal or config.frames <= sizes.max_frames,
                f".frames: {config.frames}, but {part}.max_frames is {sizes.max_frames}",
            )
        self._require(
            config.resize == "pillow" or config.crop_seed is None,
            f".crop_seed: {config.resize!r} takes the middle of a frame",
        )
        self.latent_shape = (config.frames, *self.latent_shape)

    @property
    def _frames(self):
        return (self.config.frames,)

    @property
    def value_format(self):
        return {**super().value_format, "frames": self.config.frames, "rate": self.config.rate}

    def read(self, argument):
        """A video file, from its beginning: frames at the model's rate, cropped to a square and resized."""
        shape = frame_shaper(self.read_size, self.config.resize, self.config.crop_seed)
        return files.read_video(argument, self.config.frames, self.config.rate, self.read_size, shape)

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
