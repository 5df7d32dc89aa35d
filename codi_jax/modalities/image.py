"""Images: pixels [H, W, 3] in [-1, 1]; a KL autoencoder, a CLIP vision tower, a 2-D U-Net.

Codec and tower see the same pixels, unless `clip` is set: then the tower is shown what the public release shows it, a
picture of its own size in CLIP's normalisation, made on the host from the codec's pixels (`data.images`).
"""

import base64
import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image as Pillow

from codi_jax.data import files, images
from codi_jax.data.images import CLIPPixels
from codi_jax.encoders.autokl import AutoKL, AutoKLConfig
from codi_jax.encoders.clip import CLIPVision, CLIPVisionConfig, unit
from codi_jax.modalities.base import Modality, Shared
from codi_jax.nn.environment import EnvironmentConfig
from codi_jax.nn.unet import UNetConfig


@dataclasses.dataclass(frozen=True)
class ImageConfig:
    """`config.model.modalities.image`.

    Attributes:
      size: in pixels, of a square; a multiple of what codec and denoiser reduce it by (64 in the release).
      clip: how the tower's pixels are normalised, {} for CLIP's own; None shows it the codec's pixels.
      read_size: with `clip`, side of a picture that is read of a file; the codec's pixels are made of it if it is not
        `size`, which is the default. The release reads 512 whatever it generates.
      crop_seed: None reads the middle of a file; a number draws the place, and whether to mirror it, as the release
        does unseeded (`data.images.crop_resize`).
      components: renames some of the class's.
    """

    size: int
    codec: AutoKLConfig
    prompt: CLIPVisionConfig
    denoiser: UNetConfig
    environment: EnvironmentConfig
    components: dict[str, str] = dataclasses.field(default_factory=dict)
    clip: CLIPPixels | None = None
    read_size: int = 0
    crop_seed: int | None = None


class Image(Modality):
    """Media: pixels [B, H, W, 3] float32 in [-1, 1]; with `clip`, {"pixels": those, "prompt": the tower's}. Natural
    value: uint8 [H, W, 3], a square; with `clip` of any size."""

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
        self.encoder = CLIPVision(config.prompt, dtype=self.dtype, remat=shared.remat)
        factor = config.codec.downscale * config.denoiser.reduction
        self._require(
            config.size > 0 and config.size % factor == 0, f".size: {config.size} is not a multiple of {factor}"
        )
        self._require((config.crop_seed or 0) >= 0, f".crop_seed: {config.crop_seed} is negative")
        side = config.prompt.image_size
        if config.clip is None:
            self._require(side == config.size, f".prompt.image_size: {side} is not size = {config.size}; see `clip`")
            self._require(not config.read_size, ".read_size: takes `clip`; else codec and tower see the same pixels")
        self.latent_shape = (config.size // config.codec.downscale,) * 2 + (config.codec.embed_dim,)
        self._build_denoiser()

    @property
    def _frames(self) -> tuple[int, ...]:
        """Axes between batch and height."""
        return ()

    @property
    def value_format(self):
        return {"size": self.config.size}

    @property
    def read_size(self) -> int:
        """Side of a natural value that was read of a file."""
        return self.config.read_size or self.config.size

    def _pixels(self, values):
        """Media of natural values, in numpy."""
        if self.config.clip is None:
            return np.stack([np.asarray(v, np.float32) / 127.5 - 1 for v in values])
        rows = [(self._fit(v), self._shown(images.to_float(v))) for v in values]
        return dict(zip(("pixels", "prompt"), (np.stack(part) for part in zip(*rows, strict=True)), strict=True))

    def _fit(self, value):
        sides = (self.config.size,) * 2
        return images.to_float(value if value.shape[-3:-1] == sides else images.resize(value, *sides))

    def _shown(self, pixels):
        return images.clip_pixels(pixels, self.config.prompt.image_size, self.config.clip)

    def prepare(self, samples):
        pixels = samples[self.name]
        if self.config.clip is None and pixels.dtype != np.uint8:
            return pixels
        return self._pixels(self.values(samples))

    def example(self, batch):
        def zeros(side):
            return jnp.zeros((batch, *self._frames, side, side, 3))

        if self.config.clip is None:
            return zeros(self.config.size)
        return {"pixels": zeros(self.config.size), "prompt": zeros(self.config.prompt.image_size)}

    def signal(self, media):
        return media if self.config.clip is None else media["pixels"]

    def _prompt(self, media):
        return media if self.config.clip is None else media["prompt"]

    @property
    def initialisers(self):
        return {
            "codec": lambda key: self.codec.init(key, self.signal(self.example(1)))["params"],
            "prompt": lambda key: self.encoder.init(key, self._prompt(self.example(1)))["params"],
        }

    def encode_moments(self, params, media):
        return self.codec.apply({"params": params}, self.signal(media), method="encode")

    def decode(self, params, latent):
        return self.codec.apply({"params": params}, latent, method="decode")

    def reconstruction(self, params, media, latent, key):
        """Squared error of the pixels, summed over channels and averaged over positions."""
        del key
        error = jnp.square(self.decode(params, latent).astype(jnp.float32) - self.signal(media))
        loss = error.sum(-1).mean(tuple(range(1, error.ndim - 1)))
        return loss, {"mse": error.mean()}

    def embed(self, params, media, full=False):
        del full  # a picture is its own prompt
        return unit(self.encoder.apply({"params": params}, self._prompt(media)))

    def outputs(self, decoded):
        """Pixels in [-1, 1] to uint8, truncated after clipping as the release does."""
        pixels = np.clip((np.asarray(decoded, np.float32) + 1) / 2, 0, 1)
        return list((pixels * 255).astype(np.uint8))

    def media(self, values):
        return jax.tree.map(jnp.asarray, self._pixels(values))

    def empty(self, batch):
        """Mid-grey, as the release: 0 in [-1, 1], which the tower is shown as 127."""
        media = self.example(batch)
        if self.config.clip is not None:
            grey = self._shown(np.zeros((*self._frames, self.config.size, self.config.size, 3), np.float32))
            media["prompt"] = jnp.asarray(np.broadcast_to(grey, media["prompt"].shape))
        return media

    def read(self, argument):
        """A picture file, cropped to a square and resized (bicubic) to the model's size, or to `read_size`."""
        return images.crop_resize(files.read_image(argument), self.read_size, self.config.crop_seed)

    def write(self, value, path):
        Pillow.fromarray(value).save(path)

    def values(self, samples):
        pixels = samples[self.name]
        return list(pixels) if pixels.dtype == np.uint8 else self.outputs(pixels)

    def html(self, value):
        file = io.BytesIO()
        Pillow.fromarray(value).save(file, "PNG", optimize=True)
        data = base64.b64encode(file.getvalue()).decode()
        return f'<img class="image" alt="" src="data:image/png;base64,{data}">'
