"""Images: pixels [H, W, 3] in [-1, 1]; a KL autoencoder, a CLIP vision tower, a 2-D U-Net."""

import base64
import dataclasses
import io
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from codi_jax.config import ConfigError
from codi_jax.data import files
from codi_jax.encoders.autokl import AutoKL, AutoKLConfig
from codi_jax.encoders.clip import CLIPVision, CLIPVisionConfig, unit
from codi_jax.modalities.base import Modality, Shared
from codi_jax.nn.environment import EnvironmentConfig
from codi_jax.nn.unet import UNetConfig


@dataclasses.dataclass(frozen=True)
class ImageConfig:
    """`config.model.modalities.image`; size is in pixels, of a square, and `components` renames some of the class's."""

    size: int
    codec: AutoKLConfig
    prompt: CLIPVisionConfig
    denoiser: UNetConfig
    environment: EnvironmentConfig
    components: dict[str, str] = dataclasses.field(default_factory=dict)


class Image(Modality):
    """Media: pixels [B, H, W, 3] float32 in [-1, 1]. Natural value: uint8 [H, W, 3]."""

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

    def __init__(self, config: ImageConfig, shared: Shared):
        super().__init__(shared, config.components)
        self.config = config
        self.unet, self.environment_config = config.denoiser, config.environment
        self.codec = AutoKL(config.codec, dtype=self.dtype)
        self.encoder = CLIPVision(config.prompt, dtype=self.dtype)
        factor = config.codec.downscale
        if config.size % factor:
            raise ConfigError(f"config.model.modalities.image.size: {config.size} is not a multiple of {factor}")
        self.latent_shape = (config.size // factor, config.size // factor, config.codec.embed_dim)
        self._build_denoiser()

    def prepare(self, samples):
        return samples["image"]

    def example(self, batch):
        return jnp.zeros((batch, self.config.size, self.config.size, 3))

    @property
    def initialisers(self):
        return {
            "codec": lambda key: self.codec.init(key, self.example(1))["params"],
            "prompt": lambda key: self.encoder.init(key, self.example(1))["params"],
        }

    def encode_moments(self, params, media):
        return self.codec.apply({"params": params}, media, method="encode")

    def decode(self, params, latent):
        return self.codec.apply({"params": params}, latent, method="decode")

    def reconstruction(self, params, media, latent, key):
        """Squared error of the pixels, summed over channels and averaged over positions."""
        del key
        error = jnp.square(self.decode(params, latent).astype(jnp.float32) - media)
        loss = error.sum(-1).mean(tuple(range(1, error.ndim - 1)))
        return loss, {"mse": error.mean()}

    def embed(self, params, media, full=False):
        del full  # a picture is its own prompt
        return unit(self.encoder.apply({"params": params}, media))

    def outputs(self, decoded):
        """Pixels in [-1, 1] to uint8, truncated after clipping as the release does."""
        pixels = np.clip((np.asarray(decoded, np.float32) + 1) / 2, 0, 1)
        return list((pixels * 255).astype(np.uint8))

    def media(self, values):
        return jnp.asarray(np.stack([np.asarray(v, np.float32) / 127.5 - 1 for v in values]))

    def empty(self, batch):
        return self.example(batch)  # mid-grey, as the release

    def read(self, argument):
        """A picture file, centre-cropped to a square and resized (bicubic) to the model's size."""
        path = Path(argument)
        if not path.is_file():
            raise ConfigError(f"{argument}: no such picture")
        try:
            with Pillow.open(path) as picture:
                if picture.width * picture.height > files.MAX_PIXELS:
                    raise ConfigError(f"{argument}: {picture.width}x{picture.height} is over {files.MAX_PIXELS} pixels")
                picture = picture.convert("RGB")
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{argument}: not a readable picture ({type(error).__name__})") from error
        return files.square(picture, self.config.size)

    def write(self, value, path):
        Pillow.fromarray(value).save(path)

    def values(self, samples):
        return self.outputs(samples["image"])

    def html(self, value):
        file = io.BytesIO()
        Pillow.fromarray(value).save(file, "PNG", optimize=True)
        data = base64.b64encode(file.getvalue()).decode()
        return f'<img class="image" alt="" src="data:image/png;base64,{data}">'
