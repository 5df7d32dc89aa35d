"""Renames checkpoints of OpenAI's CLIP code and of open_clip to the names of transformers, which `interop.clip` reads.

    visual.transformer.resblocks.3.attn.in_proj_weight  [3 C, C]   query, key and value, one below the other
    text_projection, visual.proj                        [C, D]     matrices of x @ W, so transposed here
    transformer.…, token_embedding, ln_final            the text tower, in some files below `text.`

Arrays are passed as views. A file does not record which GELU it was trained with: OpenAI's networks have `quick_gelu`,
as ours, and most of those that LAION trained have the exact one.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError

_LAYER = re.compile(r"(visual\.)?transformer\.resblocks\.([0-9]+)\.(.+?)(weight|bias)")
_IN_LAYER = {
    "attn.out_proj.": "self_attn.out_proj.",
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
_OTHERS = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_MATRICES = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}


def _thirds(key: str, array: Any) -> list[Any]:
    """Query, key and value.

    Raises:
      ConfigError: the array is not three of one size.
    """
    if np.ndim(array) == 0 or len(array) % 3:
        raise ConfigError(f"{key} {np.shape(array)} is not a query, a key and a value")
    width = len(array) // 3
    return [array[:width], array[width : 2 * width], array[2 * width :]]


def open_clip_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """CLIP's keys; a key that no tower has is unchanged.

    Raises:
      ConfigError: a joined query, key and value is not three of one size.
    """
    out: dict[str, Any] = {}
    for original, array in state.items():
        key = original.removeprefix("text.")
        layer = _LAYER.fullmatch(key)
        prefix = f"{'vision' if layer[1] else 'text'}_model.encoder.layers.{layer[2]}" if layer else ""
        if layer and layer[3] == "attn.in_proj_":
            for part, value in zip("qkv", _thirds(original, array), strict=True):
                out[f"{prefix}.self_attn.{part}_proj.{layer[4]}"] = value
        elif layer and layer[3] in _IN_LAYER:
            out[f"{prefix}.{_IN_LAYER[layer[3]]}{layer[4]}"] = array
        elif key in _MATRICES:
            out[_MATRICES[key]] = np.asarray(array).T
        else:
            out[_OTHERS.get(key, original)] = array
    return out
