"""The modality `pen`: recordings of a pen, [64, 3] velocity and pressure, as a fifth modality of codi_jax.

    recording → SequenceKL ↔ latent [8, C];      recording → SequenceTower → prompt;      a 1-D U-Net denoises

To add a modality is to say what its raw values, its files and its networks are: the methods below. Nothing of training,
joint generation or the command line has to be written.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import codi_jax
from codi_jax.config import ConfigError, config_class
from codi_jax.encoders.clip import unit
from codi_jax.encoders.sequence_kl import SequenceKL, SequenceKLConfig
from codi_jax.encoders.sequence_tower import SequenceTower, SequenceTowerConfig
from codi_jax.media import files
from codi_jax.modalities.base import Modality, ModelDims, decode_by_codec
from codi_jax.nn import EnvironmentConfig, UNetConfig
from codi_jax.nn.calls import apply, init
from codi_jax.report.markup import el
from examples.fifth_modality.data import CHANNELS, LENGTH

SCALE = np.array([2.2, 2.2, 0.5], np.float32)  # of the codec's input: about the standard deviations of the data
OFFSET = np.array([0.0, 0.0, 0.5], np.float32)
SIDE = 64  # pixels of a preview
MAX_BYTES = 1 << 20  # that are read of a file


@config_class()
class PenConfig:
    """`config.model.modalities.pen`; `path_weight` is that of the path's error in the codec's reconstruction loss."""

    codec: SequenceKLConfig
    prompt: SequenceTowerConfig
    denoiser: UNetConfig
    environment: EnvironmentConfig
    path_weight: float = 0.01
    components: dict[str, str] = dataclasses.field(default_factory=dict)


def path_of(recording: np.ndarray) -> np.ndarray:
    """Positions [65, 2] of a recording [64, 3], in heights of a digit, the middle of their range at the origin."""
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(recording[:, :2].astype(np.float64), axis=0) / LENGTH])
    return path - (path.max(0) + path.min(0)) / 2


@codi_jax.register("modality", "pen")
class PenModality(Modality[PenConfig]):
    """Media: scaled recordings [B, 64, 3]. Raw value: float32 [64, 3]; longer recordings are cut, shorter ones end with
    a lifted pen at rest."""

    name = "pen"
    suffix = ".csv"
    Config = PenConfig
    components = {
        "codec": "pen_codec", "prompt": "pen_tower", "denoiser": "pen_unet", "environment": "pen_environment",
        "cross": "pen_cross",
    }  # fmt: skip

    def __init__(self, config: PenConfig, dims: ModelDims):
        super().__init__(config, dims)
        self.codec = SequenceKL(config.codec, dtype=self.dtype)
        self.encoder = SequenceTower(config.prompt, dtype=self.dtype, remat=dims.remat)
        self.latent_shape = (LENGTH // config.codec.downscale, config.codec.embed_dim)
        self._build_denoiser()

    @property
    def value_format(self):
        return {"steps": LENGTH, "channels": CHANNELS}

    def raw_from_batch(self, samples):
        return list(samples["pen"])

    def raw_from_user(self, value: Any) -> np.ndarray:
        """Takes a .csv file with a step in each line, or an array [L, 3]."""
        if (file := files.given_file(value)) is not None:
            try:
                with file.open() as stream:
                    lines = stream.read(MAX_BYTES).decode().splitlines()
                value = np.array([line.split(",") for line in lines[:LENGTH]], np.float32)
            except (OSError, ValueError) as error:
                raise ConfigError(f"pen: {file.name}: no table of numbers can be read from it") from error
        if not isinstance(value, np.ndarray) or value.ndim != 2 or value.shape[1] != CHANNELS or not len(value):
            raise self._unexpected(value, "a .csv file or an array [L, 3] of velocities and pressure")
        value = value[:LENGTH].astype(np.float32)
        if not np.isfinite(value).all():
            raise ConfigError("pen: NaN or infinite numbers")
        return np.pad(value, ((0, LENGTH - len(value)), (0, 0)))

    def user_from_raw(self, value: np.ndarray) -> np.ndarray:
        return value

    def write(self, value: np.ndarray, path: Path) -> None:
        np.savetxt(path, value, "%.9g", delimiter=",")  # nine digits determine a float32

    def html(self, value: np.ndarray) -> str:
        """The strokes as inline SVG."""
        commands = ["M", *("L" if pressure > 0.5 else "M" for pressure in value[:, 2])]
        moves = [f"{command}{x:.3f} {y:.3f}" for command, (x, y) in zip(commands, path_of(value), strict=True)]
        drawn = el("path", d=" ".join(moves), fill="none", stroke="currentColor", stroke_width="0.04")
        return el("svg", drawn, class_="pen", width="96", height="96", viewBox="-1 -1 2 2")

    def preview(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """The strokes in a row, black on white."""
        out = np.full((SIDE, len(values), SIDE, 3), 255, np.uint8)
        for i, value in enumerate(values):
            path, part = path_of(value), np.linspace(0, 1, 16)[:, None, None]
            dots = ((1 - part) * path[:-1] + part * path[1:])[:, value[:, 2] > 0.5]
            column, row = np.clip((dots.reshape(-1, 2) + 1) / 2 * SIDE, 0, SIDE - 1).astype(int).T
            out[row, i, column] = 0
        return out.reshape(SIDE, -1, 3)

    def ignored(self, values: Sequence[Any]) -> tuple[str, ...]:
        del values  # all that `raw_from_user` keeps is read
        return ()

    def preprocess(self, values: Sequence[np.ndarray]) -> np.ndarray:
        return ((np.stack(values) - OFFSET) / SCALE).astype(np.float32)

    def postprocess(self, decoded: np.ndarray) -> list[np.ndarray]:
        raw = (np.asarray(decoded) * SCALE + OFFSET).astype(np.float32)
        raw[..., 2] = np.clip(raw[..., 2], 0, 1)
        return list(raw)

    def prepare(self, samples: Mapping[str, Any]) -> np.ndarray:
        return self.preprocess(self.raw_from_batch(samples))

    def example(self, batch: int):
        return jnp.zeros((batch, LENGTH, CHANNELS))

    def empty(self, batch: int):
        """A pen at rest."""
        return jnp.asarray(self.preprocess([np.zeros((LENGTH, CHANNELS), np.float32)] * batch))

    def codec_input(self, media):
        return media

    @property
    def initialisers(self):
        return {
            "codec": lambda key: init(self.codec, key, self.example(1)),
            "prompt": lambda key: init(self.encoder, key, self.example(1)),
        }

    def encode_moments(self, params, media):
        return apply(SequenceKL.encode, self.codec, params, media)

    def decode(self, params, latent):
        return apply(SequenceKL.decode, self.codec, params, latent)

    def decode_latent(self, variables, z):
        return decode_by_codec(self, variables, z)

    def reconstruction(self, params, media, latent, key):
        """Mean squared errors of the recording and of its path, in which small errors of one sign add up."""
        del key
        error = self.decode(params, latent) - media
        step = jnp.square(error).mean((1, 2))
        path = jnp.square(jnp.cumsum(error[..., :2], axis=1)).mean((1, 2))
        return step + self.config.path_weight * path, {"mse": step.mean(), "path": path.mean()}

    def embed(self, params, media, untruncated=False):
        del untruncated  # recordings are not truncated
        return unit(apply(SequenceTower.__call__, self.encoder, params, media))
