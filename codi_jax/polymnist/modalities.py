"""The modalities `view_1`, `view_2`, `view_3`, which are images, and the labels `digit` and `quadrant`.

A label is one of K values; e_k, in R^C, is the embedding of value k in its codec, of the norm √C:

    encode    q(z | k) = N(e_k, σ² I)        decode    argmax_k  z · e_k,   the nearest, since all norms are equal

so that its latent is a small vector and its denoiser the U-Net of vectors. The codec learns the e_k by the
cross-entropy of softmax(z · e / √C). The prompt encoder is another embedding, of unit norm.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

from codi_jax.config import ConfigError, config_class, did_you_mean
from codi_jax.encoders.clip import unit
from codi_jax.modalities.base import Modality, ModelDims, decode_by_codec, register
from codi_jax.modalities.image import ImageModality
from codi_jax.nn.calls import apply, init
from codi_jax.nn.environment import EnvironmentConfig
from codi_jax.nn.unet import UNetConfig
from codi_jax.polymnist.data import LABELS, VIEWS
from codi_jax.types import Array


def _view(name: str) -> type[ImageModality]:
    """The modality of one view: that of images under another name, with networks of its own and the views' codec."""

    class View(ImageModality):
        """One view."""

    View.name = name
    View.components = {
        "codec": "view_codec", "prompt": f"{name}_tower", "denoiser": f"{name}_unet",
        "environment": f"{name}_environment", "cross": f"{name}_cross",
    }  # fmt: skip
    return View


@config_class()
class LabelCodecConfig:
    """C, size of the latent, and σ, standard deviation of the latent about its embedding."""

    latent: int = 16
    std: float = 0.2

    def __post_init__(self):
        if self.latent < 1 or self.std <= 0:
            raise ConfigError(f"latent and std: expected positive numbers, got {self.latent} and {self.std}")


@config_class()
class LabelTowerConfig:
    """D, width of the prompt embedding."""

    projection: int


@config_class()
class LabelConfig:
    """`config.model.modalities.digit` and `.quadrant`; `components`: role -> name, see `Modality.__init__`."""

    codec: LabelCodecConfig
    prompt: LabelTowerConfig
    denoiser: UNetConfig
    environment: EnvironmentConfig
    components: dict[str, str] = dataclasses.field(default_factory=dict)


class LabelTable(nn.Module):
    """Embeddings [K, C] of unit norm.

    Attributes:
      values: K.
      width: C.
    """

    values: int
    width: int

    @nn.compact
    def __call__(self) -> Array:
        return unit(self.param("embedding", nn.initializers.normal(1.0), (self.values, self.width)))


class LabelModality(Modality[LabelConfig]):
    """Media: indices of values, int32 [B]; K is that of an empty label. Raw value: a string, one of `values`."""

    suffix = ".txt"
    Config = LabelConfig
    values: tuple[str, ...]

    def __init__(self, config: LabelConfig, dims: ModelDims):
        super().__init__(config, dims)
        self.codec = LabelTable(len(self.values), config.codec.latent)
        self.encoder = LabelTable(len(self.values) + 1, config.prompt.projection)  # the last: an empty label
        self.latent_shape = (config.codec.latent,)
        self._build_denoiser()

    def prepare(self, samples: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(samples[self.name], np.int32)

    def example(self, batch: int):
        return jnp.zeros((batch,), jnp.int32)

    @property
    def initialisers(self):
        return {"codec": lambda key: init(self.codec, key), "prompt": lambda key: init(self.encoder, key)}

    def _embeddings(self, params: Mapping) -> Array:
        """e [K, C]."""
        return jnp.sqrt(jnp.float32(self.config.codec.latent)) * apply(LabelTable.__call__, self.codec, params)

    def encode_moments(self, params, media):
        mean = self._embeddings(params)[media]
        return mean, jnp.full_like(mean, 2 * np.log(self.config.codec.std))

    def _logits(self, params: Mapping, latent: Array) -> Array:
        return latent.astype(jnp.float32) @ self._embeddings(params).T / np.sqrt(self.config.codec.latent)

    def decode(self, params, latent):
        """Indices of the nearest values, [B]."""
        return self._logits(params, latent).argmax(-1)

    def decode_latent(self, variables, z):
        return decode_by_codec(self, variables, z)

    def reconstruction(self, params, media, latent, key):
        """Cross-entropy of the value."""
        del key
        logits = self._logits(params, latent)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, media)
        return loss, {"exact": (logits.argmax(-1) == media).mean()}

    def embed(self, params, media, untruncated=False):
        del untruncated  # a label is not truncated
        return apply(LabelTable.__call__, self.encoder, params)[media]

    def empty(self, batch: int):
        return jnp.full((batch,), len(self.values), jnp.int32)

    def codec_input(self, media):
        return media

    def postprocess(self, decoded):
        return [self.values[i] for i in np.asarray(decoded)]

    def preprocess(self, values: Sequence[str]):
        return jnp.asarray([self.values.index(value) for value in values], jnp.int32)

    def raw_from_batch(self, samples: Mapping[str, Any]) -> list[str]:
        return self.postprocess(samples[self.name])

    def raw_from_user(self, value: Any) -> str:
        """Takes one of the values, or its index as an integer."""
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= value < len(self.values):
            return self.values[int(value)]
        if not isinstance(value, str):
            raise self._unexpected(value, f"one of {', '.join(self.values)}")
        if (text := " ".join(value.split())) not in self.values:
            hint = did_you_mean(text, self.values)
            raise ConfigError(f"{self.name}: no value {value!r}{hint}; there are {', '.join(self.values)}")
        return text

    def user_from_raw(self, value: str) -> str:
        return value

    def write(self, value: str, path: Path) -> None:
        Path(path).write_text(value + "\n", encoding="utf-8")

    def html(self, value: str) -> str:
        return f'<span class="text">{escape(value)}</span>'

    def preview(self, values: Sequence[str]) -> str:
        """A list in Markdown."""
        return "\n".join(f"- {value}" for value in values)

    def ignored(self, values: Sequence[Any]) -> tuple[str, ...]:
        del values  # a label has nothing else
        return ()

    @property
    def value_format(self) -> dict[str, Any]:
        return {}


def _label(name: str) -> type[LabelModality]:
    """The modality of one label."""

    class Label(LabelModality):
        """One label."""

    Label.name, Label.values = name, LABELS[name]
    Label.components = {
        "codec": f"{name}_codec", "prompt": f"{name}_tower", "denoiser": f"{name}_unet",
        "environment": f"{name}_environment", "cross": f"{name}_cross",
    }  # fmt: skip
    return Label


CLASSES = {name: _view(name) for name in VIEWS} | {name: _label(name) for name in LABELS}
for _name, _class in CLASSES.items():
    register(_name)(_class)
