"""Text: a caption as three id sequences; the Optimus codec, a CLIP text tower, the vector U-Net.

A sample may carry a shorter `prompt` beside its full `caption`: the prompt conditions, the caption is what the codec
encodes (the paper's rule for joint training).
"""

import dataclasses
from html import escape
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from codi_jax.config import ConfigError
from codi_jax.data.tokenizer import make_tokenizer
from codi_jax.encoders.clip import CLIPText, CLIPTextConfig, unit
from codi_jax.encoders.optimus import Optimus, OptimusConfig
from codi_jax.modalities.base import Modality, Shared
from codi_jax.nn.environment import EnvironmentConfig
from codi_jax.nn.unet import UNetConfig


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """`config.model.modalities.text`.

    Attributes:
      tokenizers: of the prompt encoder, the codec's encoder and its decoder; see `data.tokenizer.make_tokenizer`.
      length: tokens of a caption, the first and last marker included.
      word_dropout: probability with which the codec's training hides a token from its decoder, so that the latent,
        not the previous words, carries the caption (Bowman et al. 2016).
    """

    codec: OptimusConfig
    prompt: CLIPTextConfig
    denoiser: UNetConfig
    environment: EnvironmentConfig
    tokenizers: tuple[str, ...]
    length: int
    word_dropout: float = 0.0
    components: dict[str, str] = dataclasses.field(default_factory=dict)


class Text(Modality):
    """Media: {"prompt", "full", "source", "target"}, ids [B, length]: the prompt and the full caption as the prompt
    encoder reads them, and the full caption as the codec's encoder and decoder read it. Natural value: a string."""

    name = "text"
    suffix = ".txt"
    sampled_posterior = False  # as the release, whose encoder returns the mean alone
    Config = TextConfig
    components = {
        "codec": "text_codec",
        "prompt": "clip_text",
        "denoiser": "text_unet",
        "environment": "text_environment",
        "cross": "text_cross",
    }

    def __init__(self, config: TextConfig, shared: Shared):
        super().__init__(shared, config.components)
        self.config = config
        self.unet, self.environment_config = config.denoiser, config.environment
        if len(config.tokenizers) != 3:
            raise ConfigError("config.model.modalities.text.tokenizers: expected three (prompt, encoder, decoder)")
        self.tokenizers = [make_tokenizer(name) for name in config.tokenizers]
        self.codec = Optimus(config.codec, dtype=self.dtype)
        self.encoder = CLIPText(config.prompt, dtype=self.dtype)
        self.latent_shape = (config.codec.latent,)
        self._build_denoiser()

    def _ids(self, captions, prompts):
        prompt, source, target = self.tokenizers
        n = self.config.length
        return {
            "prompt": prompt.encode(prompts, n),
            "full": prompt.encode(captions, n),
            "source": source.encode(captions, n),
            "target": target.encode(captions, n),
        }

    def prepare(self, samples):
        text = samples["text"]
        return self._ids(text["caption"], text.get("prompt", text["caption"]))

    def example(self, batch):
        ids = jnp.ones((batch, self.config.length), jnp.int32)
        return dict.fromkeys(("prompt", "full", "source", "target"), ids)

    @property
    def initialisers(self):
        ids = jnp.ones((1, self.config.length), jnp.int32)
        return {
            "codec": lambda key: self.codec.init(key, ids, ids)["params"],
            "prompt": lambda key: self.encoder.init(key, ids)["params"],
        }

    def encode_moments(self, params, media):
        return self.codec.apply({"params": params}, media["source"], method="encode")

    def decode(self, params, latent):
        """Greedy ids [B, length]."""
        return self.codec.apply(
            {"params": params},
            latent,
            jax.random.key(0),
            temperature=0.0,
            max_length=self.config.length,
            method="generate",
        )

    def reconstruction(self, params, media, latent, key):
        """Cross-entropy of the caption's tokens, summed over a caption; the padding does not count."""
        target = media["target"]
        inputs, labels = target[:, :-1], target[:, 1:]
        if self.config.word_dropout:
            hidden = jax.random.bernoulli(key, self.config.word_dropout, inputs.shape).at[:, 0].set(False)
            inputs = jnp.where(hidden, self.config.codec.pad, inputs)
        logits = self.codec.apply({"params": params}, latent, inputs, method="decode_logits").astype(jnp.float32)
        mask = labels != self.config.codec.pad
        loss = (optax.softmax_cross_entropy_with_integer_labels(logits, labels) * mask).sum(-1)
        right = ((logits.argmax(-1) == labels) | ~mask).all(-1)
        return loss, {"exact": right.mean()}

    def embed(self, params, media, full=False):
        return unit(self.encoder.apply({"params": params}, media["full" if full else "prompt"]))

    def outputs(self, decoded):
        return [self.tokenizers[2].decode(ids) for ids in np.asarray(decoded)]

    def media(self, values):
        return {k: jnp.asarray(v) for k, v in self._ids(list(values), list(values)).items()}

    def empty(self, batch):
        return self.media([""] * batch)

    def read(self, argument):
        text = " ".join(argument.split())
        if not text:
            raise ConfigError("an empty text prompt; leave the option out to generate without a prompt")
        return text

    def write(self, value, path):
        Path(path).write_text(value + "\n", encoding="utf-8")

    def values(self, samples):
        return [str(caption) for caption in samples["text"]["caption"]]

    def html(self, value):
        return f'<span class="text">{escape(value)}</span>' if value else '<span class="text none">(empty)</span>'
