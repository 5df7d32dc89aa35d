"""What transformers, and the projects whose models it took over, call the tensors that the CoDi release holds, too.

Every function takes a checkpoint's flat dictionary (key -> array) and returns it under the keys of the release, less
their first prefix, as the tables beside this file read them:

    clip_state      CLIPModel and its towers alone        → `interop.clip`      TEXT, VISION
    clap_state      ClapModel and its audio tower alone   → `interop.clap`      RULES
    laion_state     LAION's own CLAP                      → `interop.clap`      RULES
    bert_state      BertModel and models on it            → `interop.optimus`   RULES, the encoder
    gpt2_state      GPT2Model, GPT2LMHeadModel            → `interop.optimus`   RULES, the decoder
    hifigan_state   SpeechT5HifiGan, the original         → `interop.hifigan`   RULES

Arrays pass as they are, so that a file mapped into memory stays there; only those that are joined, or fused with their
norms, are made. CLIP's file does not say which gelu it was trained with: ours is OpenAI's, `quick_gelu`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop.hifigan import fused

State = dict[str, Any]


def _renamed(state: Mapping[str, Any], rename: Callable[[str], str]) -> State:
    """The state under other keys.

    Raises:
      ConfigError: two of them become the same.
    """
    out: State = {}
    for key, value in state.items():
        if (new := rename(key)) in out:
            raise ConfigError(f"{key}: the file holds two tensors of this name, one under a prefix")
        out[new] = value
    return out


def clip_state(state: Mapping[str, Any]) -> State:
    """CLIP's keys; a tower that was saved alone by transformers 5 gets back the prefix that it lost."""
    signs = {"embeddings.token_embedding.weight": "text_model.", "embeddings.class_embedding": "vision_model."}
    prefix = next((prefix for sign, prefix in signs.items() if sign in state), "")
    return _renamed(state, lambda key: prefix + key)


_CLAP = [
    (r"audio_model\.audio_encoder\.batch_norm\.", "audio_branch.bn0."),
    (r"audio_model\.audio_encoder\.", "audio_branch."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.self\.", ".attn."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"audio_projection\.linear1\.", "audio_projection.0."),
    (r"audio_projection\.linear2\.", "audio_projection.2."),
]
_QUERY = re.compile(r"(audio_branch\..*\.attn)\.query\.(weight|bias)")


def _in_turn(key: str, renames: list[tuple[str, str]]) -> str:
    for pattern, new in renames:
        key = re.sub(pattern, new, key)
    return key


def clap_state(state: Mapping[str, Any]) -> State:
    """The audio tower's keys; the three matrices of every attention become one, and so do their biases.

    What is not the audio tower's stays as it is. So does an attention that lacks one of the three: no table reads
    them, and the reader will name them.
    """
    out = _renamed(state, lambda key: _in_turn(key, _CLAP) if key.startswith("audio_") else key)
    for key in list(out):
        if m := _QUERY.fullmatch(key):
            three = [f"{m[1]}.{part}.{m[2]}" for part in ("query", "key", "value")]
            if all(name in out for name in three):
                out[f"{m[1]}.qkv.{m[2]}"] = np.concatenate([np.asarray(out.pop(name)) for name in three])
    return out


def laion_state(state: Mapping[str, Any]) -> State:
    """LAION's keys without the prefix that training on several devices gave them."""
    return _renamed(state, lambda key: key.removeprefix("module."))


_BERT = [
    (r"^bert\.", ""),
    (r"\.LayerNorm\.gamma$", ".LayerNorm.weight"),  # before 2019
    (r"\.LayerNorm\.beta$", ".LayerNorm.bias"),
    (r"^", "encoder."),
]


def bert_state(state: Mapping[str, Any]) -> State:
    """BERT's keys, with or without `bert.`, in today's spelling or the first one; those of heads stay."""
    return _renamed(state, lambda key: key if key.startswith("cls.") else _in_turn(key, _BERT))


def gpt2_state(state: Mapping[str, Any]) -> State:
    """GPT-2's keys, with or without `transformer.`."""

    def rename(key: str) -> str:
        return "decoder." + (key if key.startswith(("transformer.", "lm_head.")) else f"transformer.{key}")

    return _renamed(state, rename)


_HIFIGAN = [
    (r"^generator\.", ""),
    (r"^upsampler\.", "ups."),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
]


def hifigan_state(state: Mapping[str, Any]) -> State:
    """The generator's keys, weight norms fused.

    Raises:
      ConfigError: it normalises its spectrogram by a mean and scale other than 0 and 1, which ours does not.
    """
    out = _renamed(state, lambda key: _in_turn(key, _HIFIGAN))
    for name, neutral in (("mean", 0), ("scale", 1)):
        if not (np.asarray(out.get(name, neutral)) == neutral).all():
            raise ConfigError(f"{name}: this vocoder normalises its spectrogram, which ours does not")
    return fused(out)
