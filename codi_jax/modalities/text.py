"""Text: captions as sequences of token ids; the Optimus codec, a CLIP text tower, a vector U-Net.

A sample may have a shorter `prompt` in addition to its `caption`: the prompt is the condition, the caption is what the
codec encodes (the paper's rule for joint training).

The public release uses 77 ids for CLIP, lower-cased wordpieces for the codec's encoder, up to 30 ids from its decoder,
sampled at temperature 1, and post-processes captions (`encoders.text_postprocess`). It pads the encoder's ids to the
longest caption, up to 512; here shapes are fixed, so that a longer caption is truncated and its last id is <eos>.
"""

import dataclasses
import functools
from html import escape
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from codi_jax.condition import BEGINNING
from codi_jax.config import ConfigError, config_class
from codi_jax.data.tokenizer import make_tokenizer
from codi_jax.encoders.bert import PAD
from codi_jax.encoders.clip import CLIPText, CLIPTextConfig, unit
from codi_jax.encoders.optimus import Optimus, OptimusConfig
from codi_jax.encoders.text_postprocess import tidy
from codi_jax.modalities.base import Modality, ModelDims, register
from codi_jax.nn.calls import apply, init
from codi_jax.nn.environment import EnvironmentConfig
from codi_jax.nn.unet import UNetConfig
from codi_jax.rng import check_seed, seed_key

MAX_SHOWN = 60  # characters of the end of a prompt, in a message


@config_class()
class TextConfig:
    """`config.model.modalities.text`.

    Attributes:
      tokenizers: of the prompt encoder, the codec's encoder and its decoder; see `data.tokenizer.make_tokenizer`.
      length: tokens of a caption, <bos> and <eos> included; one number, or one for each of the tokenizers, such as
        (77, 64, 30). The third is the maximum length of a generated caption.
      word_dropout: probability that the codec's training masks an input token of its decoder, so that the latent and
        not the previous words determines the caption (Bowman et al. 2016).
      components: role -> component name, see `Modality.__init__`.
      lower: lower-case captions for the codec's encoder.
      temperature: of sampling from the decoder; 0 takes the likeliest token.
      seed: of sampling from the decoder. Row i of a batch samples with (seed, i), independently of the other rows.
      tidy: remove repetitions and join punctuation in generated captions, see `encoders.text_postprocess`.
    """

    codec: OptimusConfig
    prompt: CLIPTextConfig
    denoiser: UNetConfig
    environment: EnvironmentConfig
    tokenizers: tuple[str, ...]
    length: int | tuple[int, ...]
    word_dropout: float = 0.0
    components: dict[str, str] = dataclasses.field(default_factory=dict)
    lower: bool = False
    temperature: float = 0.0
    seed: int = 0
    tidy: bool = False

    def __post_init__(self):
        check_seed(self.seed, "text.seed")


@register("text")
class TextModality(Modality[TextConfig]):
    """Media: {"prompt", "full", "source", "target"}, ids [B, length of each]: the prompt and the caption for the prompt
    encoder, and the caption for the codec's encoder and for its decoder. Raw value: a string."""

    name = "text"
    suffix = ".txt"
    sampled_posterior = False  # as in the release, whose encoder returns only the mean
    completes = True
    Config = TextConfig
    components = {
        "codec": "text_codec",
        "prompt": "clip_text",
        "denoiser": "text_unet",
        "environment": "text_environment",
        "cross": "text_cross",
    }

    def __init__(self, config: TextConfig, dims: ModelDims):
        super().__init__(config, dims)
        if len(config.tokenizers) != 3:
            raise ConfigError(
                "config.model.modalities.text.tokenizers: expected three (prompt encoder, codec encoder, codec decoder)"
            )
        length = config.length
        self.lengths = (length,) * 3 if isinstance(length, int) else tuple(length)
        self._check_sizes()
        self.codec = Optimus(config.codec, dtype=self.dtype)
        self.encoder = CLIPText(config.prompt, dtype=self.dtype, remat=dims.remat)
        self.latent_shape = (config.codec.latent,)
        self._build_denoiser()

    def _check_sizes(self) -> None:
        config = self.config
        self._require(len(self.lengths) == 3, f".length: expected one number or three, got {config.length}")
        self._require(config.temperature >= 0, f".temperature: {config.temperature} is negative")
        tables = (config.prompt, config.codec.encoder, config.codec.decoder)
        for where, length, table in zip(
            ("prompt", "codec.encoder", "codec.decoder"), self.lengths, tables, strict=True
        ):
            self._require(
                2 <= length <= table.positions,
                f".length: {length}, but {where} takes 2 (<bos> and <eos>) to {table.positions}",
            )

    @functools.cached_property
    def tokenizers(self):
        """Tokenizers of the prompt encoder, the codec's encoder and its decoder; loaded at first use.

        Raises:
          ConfigError: a tokenizer that does not match its network.
        """
        tokenizers = [make_tokenizer(name) for name in self.config.tokenizers]
        prompt, source, target = tokenizers
        config, codec = self.config, self.config.codec
        for i, table in enumerate((config.prompt, codec.encoder, codec.decoder)):
            self._require(
                tokenizers[i].size <= table.vocab,
                f".tokenizers[{i}]: {tokenizers[i].size} ids, but the vocabulary of the network has {table.vocab}",
            )
        self._require(
            prompt.eos == prompt.size - 1,
            ".tokenizers[0]: <eos> must have the largest id, by which the prompt encoder finds it",
        )
        self._require(source.pad == PAD, f".tokenizers[1]: pads with {source.pad}, but the encoder with {PAD}")
        ours, theirs = (codec.bos, codec.eos, codec.pad), (target.bos, target.eos, target.pad)
        self._require(ours == theirs, f".tokenizers[2]: its bos, eos and pad are {theirs}, the codec's {ours}")
        return tokenizers

    def _ids(self, captions, prompts):
        prompt, source, target = self.tokenizers
        prompt_length, source_length, target_length = self.lengths
        lowered = [str(c).lower() for c in captions] if self.config.lower else captions
        return {
            "prompt": prompt.encode(prompts, prompt_length),
            "full": prompt.encode(captions, prompt_length),
            "source": source.encode(lowered, source_length),
            "target": target.encode(captions, target_length),
        }

    def prepare(self, samples):
        text = samples["text"]
        return self._ids(text["caption"], text.get("prompt", text["caption"]))

    def example(self, batch):
        ids = {length: jnp.ones((batch, length), jnp.int32) for length in dict.fromkeys(self.lengths)}
        prompt, source, target = (ids[length] for length in self.lengths)
        return {"prompt": prompt, "full": prompt, "source": source, "target": target}

    @property
    def initialisers(self):
        ids = self.example(1)
        return {
            "codec": lambda key: init(self.codec, key, ids["source"], ids["target"]),
            "prompt": lambda key: init(self.encoder, key, ids["prompt"]),
        }

    def encode_moments(self, params, media):
        return apply(Optimus.encode, self.codec, params, media["source"])

    def decode(self, params, latent, beginning=None):
        """Samples ids [B, length]; see `TextConfig.temperature` and `seed`, and `Optimus.generate` for a beginning."""
        return apply(
            Optimus.generate,
            self.codec,
            params,
            latent,
            seed_key(self.config.seed),
            temperature=self.config.temperature,
            max_length=self.lengths[2],
            beginning=beginning,
        )

    def reconstruction(self, params, media, latent, key):
        """Cross-entropy of the caption's tokens, summed over a caption without its padding."""
        target = media["target"]
        inputs, labels = target[:, :-1], target[:, 1:]
        if self.config.word_dropout:
            masked = jax.random.bernoulli(key, self.config.word_dropout, inputs.shape).at[:, 0].set(False)
            inputs = jnp.where(masked, self.config.codec.pad, inputs)
        logits = apply(Optimus.decode_logits, self.codec, params, latent, inputs).astype(jnp.float32)
        mask = labels != self.config.codec.pad
        loss = (optax.softmax_cross_entropy_with_integer_labels(logits, labels) * mask).sum(-1)
        exact = ((logits.argmax(-1) == labels) | ~mask).all(-1)
        return loss, {"exact": exact.mean()}

    def embed(self, params, media, untruncated=False):
        return unit(apply(CLIPText.__call__, self.encoder, params, media["full" if untruncated else "prompt"]))

    def postprocess(self, decoded):
        texts = [self.tokenizers[2].decode(ids) for ids in np.asarray(decoded)]
        return [tidy(text) for text in texts] if self.config.tidy else texts

    def preprocess(self, values):
        return {k: jnp.asarray(v) for k, v in self._ids(list(values), list(values)).items()}

    @property
    def value_format(self):
        return {}

    def codec_input(self, media):
        return media

    def decode_latent(self, variables, z, beginning=None):
        return self.decode(self.component(variables, "codec"), self.denormalize(variables, z), beginning)

    def kept(self, condition, value):
        """There is none: the latent of a caption is one vector."""
        raise ConfigError(
            f"{self.name}: keep: its latent is one vector, of which no part can be kept, but its beginning can: "
            f"expected {BEGINNING!r}, got {condition.keep or 'a mask'!r}"
        )

    def beginnings(self, values):
        """Ids [B, length] for the decoder."""
        tokenizer, length = self.tokenizers[2], self.lengths[2]
        for tokens, _ in tokenizer.truncated(values, length - 1):  # a token is left to generate
            raise ConfigError(
                f"{self.name}: a beginning of {tokens} tokens; a caption has {length - 2}, of which one is generated"
            )
        ids = tokenizer.encode(values, length)
        return np.where(ids == tokenizer.eos, self.config.codec.pad, ids)

    def complete(self, generated, value):
        """The words as they were given, and what the decoder has added to them."""
        decoded = self.tokenizers[2].decode(self.beginnings([value])[0])
        rest = generated.removeprefix(tidy(decoded) if self.config.tidy else decoded)
        return f"{value} {rest.strip()}".rstrip()

    def ignored(self, values):
        """Names words outside of the vocabulary, and the ends of prompts that have too many tokens."""
        tokenizer, length, lines = self.tokenizers[0], self.lengths[0], []
        if unknown := tokenizer.unknown(values):
            assert tokenizer.words is not None, "only a tokenizer with a list of words has unknown ones"
            what = "is not a word" if len(unknown) == 1 else "are not words"
            words = f"{', '.join(map(repr, unknown))} {what} of this model"
            lines.append(f"{self.name} prompt: {words}; it knows: {', '.join(tokenizer.words)}")
        for tokens, rest in tokenizer.truncated(values, length):
            rest = rest if len(rest) <= MAX_SHOWN else f"{rest[:MAX_SHOWN]}…"
            lines.append(
                f"{self.name} prompt: has {tokens} tokens, of which the model reads {length - 2}, without {rest!r}"
            )
        return tuple(lines)

    def empty(self, batch):
        return self.preprocess([""] * batch)

    def raw_from_user(self, value):
        """Takes a string; white space is normalised."""
        if not isinstance(value, str):
            raise self._unexpected(value, "a string")
        if not (text := " ".join(value.split())):
            raise ConfigError("an empty text prompt; leave it out to generate without a prompt")
        return text

    def user_from_raw(self, value):
        return value

    def write(self, value, path):
        Path(path).write_text(value + "\n", encoding="utf-8")

    def raw_from_batch(self, samples):
        return [str(caption) for caption in samples["text"]["caption"]]

    def preview(self, values):
        """A list in Markdown."""
        return "\n".join(f"- {text}" for text in values)

    def html(self, value):
        return f'<span class="text">{escape(value)}</span>' if value else '<span class="text none">(empty)</span>'
