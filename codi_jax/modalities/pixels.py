"""What image and video share: pixels in [-1, 1]; a KL autoencoder, a CLIP vision tower, a U-Net.

Codec and tower read the same pixels, unless `clip` is set. Then the tower reads, as in the public release, the codec's
pixels resized to its own size and in CLIP's normalisation, computed on the host (`data.images`).
"""

import abc
import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from codi_jax.config import ConfigError, config_class
from codi_jax.encoders.autokl import AutoKL, AutoKLConfig
from codi_jax.encoders.clip import CLIPVision, CLIPVisionConfig, unit
from codi_jax.media import files, images
from codi_jax.media.image_files import read_image
from codi_jax.media.images import CLIPPixels
from codi_jax.modalities.base import Modality, ModelDims, decode_by_codec
from codi_jax.modalities.parts import blocks, from_nearest, spread, with_median
from codi_jax.nn.calls import apply, init
from codi_jax.nn.environment import EnvironmentConfig
from codi_jax.nn.unet import UNetConfig


@config_class()
class PixelConfig:
    """Fields of `config.model.modalities.image` and `.video`.

    Attributes:
      size: side of the square images in pixels; a multiple of the reduction by codec and denoiser (64 in the release).
      components: role -> component name, see `Modality.__init__`.
      clip: normalisation of the tower's pixels, {} for CLIP's; None for the codec's pixels.
      read_size: with `clip`, side of an image read from a file, which is resized to `size` for the codec; 0 for `size`.
        The release reads 512 for all sizes.
      crop_seed: seed of a random crop and mirroring of a file's image, which the release draws without a seed
        (`media.images.crop_resize`); None for the centre.
      reads_parts: whether parts of values have a prompt encoder of their own (`objectives.parts`).
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
    reads_parts: bool = False


PixelConfigT = TypeVar("PixelConfigT", bound=PixelConfig)


class PixelModality(Modality[PixelConfigT]):
    """Media: pixels [B, *frames, H, W, 3] float32 in [-1, 1]; with `clip`, {"pixels": those, "prompt": the tower's}.

    Raw value: uint8 [*frames, H, W, 3] of `size`; with `clip`, of any size. An image has no axis of frames.
    """

    def __init__(self, config: PixelConfigT, dims: ModelDims):
        super().__init__(config, dims)
        self.codec = AutoKL(config.codec, dtype=self.dtype)
        self.encoder = CLIPVision(config.prompt, dtype=self.dtype, remat=dims.remat)
        factor = config.codec.downscale * config.denoiser.reduction
        self._require(
            config.size > 0 and config.size % factor == 0, f".size: {config.size} is not a multiple of {factor}"
        )
        self._require((config.crop_seed or 0) >= 0, f".crop_seed: {config.crop_seed} is negative")
        side = config.prompt.image_size
        if config.clip is None:
            self._require(
                side == config.size, f".prompt.image_size: {side} differs from size = {config.size}; see `clip`"
            )
            self._require(
                not config.read_size, ".read_size: needs `clip`; without it codec and tower read the same pixels"
            )
        side_of_latent = (config.size // config.codec.downscale,) * 2
        self.latent_shape = (*self._frames, *side_of_latent, config.codec.embed_dim)
        self.part_axes = tuple(range(len(self.latent_shape) - 1))
        self._build_denoiser()

    @property
    @abc.abstractmethod
    def _frames(self) -> tuple[int, ...]:
        """Lengths of the axes between batch and height."""

    @property
    def read_size(self) -> int:
        """Side of a raw value read from a file."""
        return self.config.read_size or self.config.size

    def _pixels(self, values):
        """Media of raw values, as NumPy arrays."""
        if (clip := self.config.clip) is None:
            return np.stack([np.asarray(v, np.float32) / 127.5 - 1 for v in values])
        rows = [(self._fit(v), self._tower_pixels(images.to_float(v), clip)) for v in values]
        return dict(zip(("pixels", "prompt"), (np.stack(part) for part in zip(*rows, strict=True)), strict=True))

    def _fit(self, value):
        sides = (self.config.size,) * 2
        return images.to_float(value if value.shape[-3:-1] == sides else images.resize(value, *sides))

    def _tower_pixels(self, pixels, clip: CLIPPixels):
        return images.clip_pixels(pixels, self.config.prompt.image_size, clip)

    def _given_pixels(self, value, shape: str) -> np.ndarray | None:
        """Pixels that a user gives as an array; None if the value is no array.

        Raises:
          ConfigError: an array of another type or shape than uint8 `shape`.
        """
        if not isinstance(value, (np.ndarray, jax.Array)):
            return None
        pixels = np.asarray(value)
        if pixels.dtype != np.uint8 or pixels.ndim != len(self._frames) + 3 or pixels.shape[-1] != 3 or not pixels.size:
            raise self._unexpected(pixels, f"uint8 {shape}")
        return pixels

    def kept(self, condition, value):
        """What is black in the mask, in all frames; bool [*frames, H, W, 1]."""
        if condition.mask is None:
            raise ConfigError(f"{self.name}: keep: {condition.keep!r}, but it has no time; give a mask")
        mask = condition.mask
        if isinstance(mask, (np.ndarray, jax.Array)):
            mask = np.asarray(mask)
            if mask.ndim != 2 or not mask.size or mask.dtype.kind not in "bufi":
                raise self._unexpected(mask, "a mask [H, W], or an image of it")
            levels = mask * 255.0 if mask.dtype.kind in "bf" else mask
            mask = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
        source = mask if isinstance(mask, Image.Image) else files.given_file(mask)
        if source is None:
            raise self._unexpected(mask, "a mask: a file, an image of Pillow or an array [H, W]")
        pixels = images.crop_resize(read_image(source), value.shape[-2], self.config.crop_seed)
        return np.broadcast_to(pixels.max(-1, keepdims=True) < 128, (*value.shape[:-1], 1))

    def latent_mask(self, kept):
        return blocks(kept[..., 0], self.latent_shape[:-1])[..., None].astype(np.float32)

    def hide(self, media, mask):
        """Other pixels are the median of all that are kept, in every frame."""
        pixels = self._prompt(media)
        hidden = with_median(pixels, spread(mask, (len(mask), *pixels.shape[1:-1], 1)) > 0)
        return hidden if self.config.clip is None else {**media, "prompt": hidden}

    def composite(self, generated, value, kept):
        if value.shape != generated.shape:  # `clip` reads larger images than it generates
            value = images.resize(value, *generated.shape[-3:-1])
            kept = blocks(kept[..., 0], generated.shape[:-1])[..., None]
        return np.where(kept, value, generated)

    def filled(self, value, kept):
        """Other pixels are those of the nearest frame that keeps them, or the median of all that are kept."""
        return from_nearest(value, np.broadcast_to(kept[..., 0], value.shape[:-1]))

    def prepare(self, samples):
        pixels = samples[self.name]
        if self.config.clip is None and pixels.dtype != np.uint8:
            return pixels
        return self._pixels(self.raw_from_batch(samples))

    def example(self, batch):
        def zeros(side):
            return jnp.zeros((batch, *self._frames, side, side, 3))

        if self.config.clip is None:
            return zeros(self.config.size)
        return {"pixels": zeros(self.config.size), "prompt": zeros(self.config.prompt.image_size)}

    def codec_input(self, media):
        return media if self.config.clip is None else media["pixels"]

    def _prompt(self, media):
        return media if self.config.clip is None else media["prompt"]

    @property
    def initialisers(self):
        return {
            "codec": lambda key: init(self.codec, key, self.codec_input(self.example(1))),
            "prompt": lambda key: init(self.encoder, key, self._prompt(self.example(1))),
        }

    def ignored(self, values):
        del values  # all pixels that `raw_from_user` keeps are read
        return ()

    def encode_moments(self, params, media):
        return apply(AutoKL.encode, self.codec, params, self.codec_input(media))

    def decode(self, params, latent):
        return apply(AutoKL.decode, self.codec, params, latent)

    def decode_latent(self, variables, z):
        return decode_by_codec(self, variables, z)

    def reconstruction(self, params, media, latent, key):
        """Squared error of the pixels, summed over channels and averaged over positions."""
        del key
        error = jnp.square(self.decode(params, latent).astype(jnp.float32) - self.codec_input(media))
        loss = error.sum(-1).mean(tuple(range(1, error.ndim - 1)))
        return loss, {"mse": error.mean()}

    def embed(self, params, media, untruncated=False):
        del untruncated  # image prompts are not truncated
        return unit(apply(CLIPVision.__call__, self.encoder, params, self._prompt(media)))

    def postprocess(self, decoded):
        """Pixels in [-1, 1] to uint8, clipped, then truncated as in the release."""
        pixels = np.clip((np.asarray(decoded, np.float32) + 1) / 2, 0, 1)
        return list((pixels * 255).astype(np.uint8))

    def preprocess(self, values):
        return jax.tree.map(jnp.asarray, self._pixels(values))

    def empty(self, batch):
        """Mid-grey, as in the release: 0 in [-1, 1], which is 127 of 255 for the tower."""
        media = self.example(batch)
        if (clip := self.config.clip) is not None:
            zeros = np.zeros((*self._frames, self.config.size, self.config.size, 3), np.float32)
            grey = self._tower_pixels(zeros, clip)
            media["prompt"] = jnp.asarray(np.broadcast_to(grey, media["prompt"].shape))
        return media

    def raw_from_batch(self, samples):
        pixels = samples[self.name]
        return list(pixels) if pixels.dtype == np.uint8 else self.postprocess(pixels)
