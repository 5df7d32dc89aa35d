"""Video: frames [T, H, W, 3] in [-1, 1]; the vision components, with temporal layers in U-Net and CLIP tower.

The codec encodes every frame independently; only the denoiser and the prompt encoder mix frames.
"""

import io

import numpy as np
from PIL import Image

from codi_jax.config import config_class
from codi_jax.media import files
from codi_jax.media.data_url import data_url
from codi_jax.media.images import Resize, frame_shaper
from codi_jax.modalities.base import ModelDims, register
from codi_jax.modalities.parts import frames, in_spans, is_spans, spans
from codi_jax.modalities.pixels import PixelConfig, PixelModality
from codi_jax.nn.config import TimingConfig


@config_class(kw_only=True)
class VideoConfig(PixelConfig):
    """`config.model.modalities.video`; see `PixelConfig` for the other fields.

    Attributes:
      frames: number of frames, at most `max_frames` of the temporal layers (30 in the release).
      rate: frames per second.
      resize: how frames of a file are cropped and resized: `pillow`, the centre square with Pillow's bicubic filter;
        `torch`, the release's centre crop and the filter of its torchvision (0.13); `torch_antialias`, the filter of
        later versions.
      timing: attention in time; None for none.
    """

    frames: int
    rate: float
    resize: Resize = "pillow"
    timing: TimingConfig | None = None


@register("video")
class VideoModality(PixelModality[VideoConfig]):
    """Media and raw values: see `PixelModality`, with T frames."""

    name = "video"
    suffix = ".mp4"
    Config = VideoConfig
    components = {
        "codec": "vision_codec",
        "prompt": "clip_vision",
        "denoiser": "vision_unet",
        "environment": "video_environment",
        "cross": "video_cross",
    }

    def __init__(self, config: VideoConfig, dims: ModelDims):
        super().__init__(config, dims)
        self._require(config.frames > 0, f".frames: must be positive, got {config.frames}")
        networks = [("denoiser", config.denoiser), ("environment", config.environment)]
        if config.timing is not None:
            networks.append(("timing.encoder", config.timing.encoder))
        for part, sizes in networks:
            self._require(
                not sizes.temporal or config.frames <= sizes.max_frames,
                f".frames: {config.frames}, but {part}.max_frames is {sizes.max_frames}",
            )
        self._require(
            config.resize == "pillow" or config.crop_seed is None,
            f".crop_seed: resize = {config.resize!r} crops the centre",
        )

    @property
    def _frames(self):
        return (self.config.frames,)

    @property
    def duration(self):
        return self.config.frames / self.config.rate

    @property
    def value_format(self):
        return {"size": self.config.size, "frames": self.config.frames, "rate": self.config.rate}

    def raw_from_user(self, value):
        """Takes the beginning of a video file, or of frames uint8 [T, H, W, 3] at the model's rate.

        Frames are cropped to squares and resized; if there are too few, the last one is repeated.
        """
        shape = frame_shaper(self.read_size, self.config.resize, self.config.crop_seed)
        if (pixels := self._given_pixels(value, "[T, H, W, 3]")) is not None:
            frames = [shape(Image.fromarray(frame)) for frame in pixels[: self.config.frames]]
            return np.stack(frames + frames[-1:] * (self.config.frames - len(frames)))
        if (file := files.given_file(value)) is None:
            raise self._unexpected(value, "a file or uint8 [T, H, W, 3]")
        return files.read_video(file, self.config.frames, self.config.rate, self.read_size, shape)

    def kept(self, condition, value):
        """Frames, or what is black in a mask of all frames; bool [T, H, W, 1]."""
        if condition.keep is None:
            return super().kept(condition, value)
        if is_spans(condition.keep):
            chosen = in_spans(np.arange(len(value)) / self.config.rate, spans(condition.keep, self.name))
        else:
            chosen = frames(condition.keep, len(value), self.name)
        return np.broadcast_to(chosen[:, None, None, None], (*value.shape[:-1], 1))

    def user_from_raw(self, value):
        """Frames uint8 [T, H, W, 3]."""
        return value

    def write(self, value, path):
        files.write_video(path, value, self.config.rate)

    def preview(self, values):
        """A row of frames for each video."""
        return np.concatenate([np.concatenate(list(frames), axis=1) for frames in values])

    def html(self, value):
        """An animated WebP, which plays in a loop."""
        file = io.BytesIO()
        first, *rest = (Image.fromarray(frame) for frame in value)
        duration = round(1000 / self.config.rate)
        first.save(file, "WEBP", save_all=True, append_images=rest, duration=duration, loop=0, lossless=True)
        return f'<img class="video" alt="" src="{data_url("image/webp", file.getvalue())}">'
