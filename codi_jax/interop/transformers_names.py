"""Renames checkpoints of transformers, and of the original projects, to the names in the CoDi release.

Every function takes a checkpoint's flat dictionary (key -> array) and returns it with the keys of the release (without
their first prefix), which the following tables read:

    clip_state      CLIPModel and its towers alone        → `interop.clip`      TEXT, VISION
    clap_state      ClapModel and its audio tower alone   → `interop.clap`      RULES
    sd_state        Stable Diffusion 1.x in one file      → the same, its CLIP text tower only
    bert_state      BertModel and models on it            → `interop.optimus`   RULES, the encoder
    gpt2_state      GPT2Model, GPT2LMHeadModel            → `interop.optimus`   RULES, the decoder
    hifigan_state   SpeechT5HifiGan, the original         → `interop.hifigan`   RULES

Arrays are passed unchanged, so that a memory-mapped file is not copied, except those that are joined or whose weight
norms are fused. A file of CLIP does not record which GELU it was trained with; we use OpenAI's, `quick_gelu`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop.hifigan import fused

State = dict[str, Any]


def _renamed(state: Mapping[str, Any], rename: Callable[[str], str]) -> State:
    """The state with renamed keys.

    Raises:
      ConfigError: two keys become equal.
    """
    out: State = {}
    for key, value in state.items():
        if (new := rename(key)) in out:
            raise ConfigError(f"{key}: the file has this tensor twice, with and without a prefix")
        out[new] = value
    return out


def clip_state(state: Mapping[str, Any]) -> State:
    """CLIP's keys; a single tower saved by transformers 5 gets its prefix, which such files lack."""
    prefixes = {"embeddings.token_embedding.weight": "text_model.", "embeddings.class_embedding": "vision_model."}
    prefix = next((prefix for key, prefix in prefixes.items() if key in state), "")
    return _renamed(state, lambda key: prefix + key)


_SD_CLIP = re.compile(r"cond_stage_model\.transformer\.(?=(embeddings|encoder|final_layer_norm)\.)")


def sd_state(state: Mapping[str, Any]) -> State:
    """The keys of a file of Stable Diffusion, with `text_model.`, which some programs left out of those of CLIP."""
    return _renamed(state, lambda key: _SD_CLIP.sub("cond_stage_model.transformer.text_model.", key))


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


def _replace_all(key: str, renames: list[tuple[str, str]]) -> str:
    for pattern, new in renames:
        key = re.sub(pattern, new, key)
    return key


def clap_state(state: Mapping[str, Any]) -> State:
    """The audio tower's keys; query, key and value of every attention are joined, as are their biases.

    Other keys are unchanged. So are those of an attention that lacks one of the three; no table matches them, so the
    reader reports them.
    """
    out = _renamed(state, lambda key: _replace_all(key, _CLAP) if key.startswith("audio_") else key)
    for key in list(out):
        if m := _QUERY.fullmatch(key):
            names = [f"{m[1]}.{part}.{m[2]}" for part in ("query", "key", "value")]
            if all(name in out for name in names):
                out[f"{m[1]}.qkv.{m[2]}"] = np.concatenate([np.asarray(out.pop(name)) for name in names])
    return out


_BERT = [
    (r"^bert\.", ""),
    (r"\.LayerNorm\.gamma$", ".LayerNorm.weight"),  # before 2019
    (r"\.LayerNorm\.beta$", ".LayerNorm.bias"),
    (r"^", "encoder."),
]


def bert_state(state: Mapping[str, Any]) -> State:
    """BERT's keys, with or without `bert.`, in the present or the first spelling; those of heads are unchanged."""
    return _renamed(state, lambda key: key if key.startswith("cls.") else _replace_all(key, _BERT))


def gpt2_state(state: Mapping[str, Any]) -> State:
    """GPT-2's keys, with or without `transformer.`."""

    def rename(key: str) -> str:
        return "decoder." + (key if key.startswith(("transformer.", "lm_head.")) else f"transformer.{key}")

    return _renamed(state, rename)


_HIFIGAN = [
    (r"^upsampler\.", "ups."),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
]


def hifigan_state(state: Mapping[str, Any]) -> State:
    """The generator's keys, with weight norms fused.

    Raises:
      ConfigError: it normalizes its spectrogram with a mean and scale other than 0 and 1, which ours does not.
    """
    out = _renamed(state, lambda key: _replace_all(key, _HIFIGAN))
    for name, neutral in (("mean", 0), ("scale", 1)):
        if not (np.asarray(out.get(name, neutral)) == neutral).all():
            raise ConfigError(f"{name}: this vocoder normalizes its spectrogram, which ours does not")
    return fused(out)
