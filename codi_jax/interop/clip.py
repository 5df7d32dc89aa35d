"""`encoders.CLIPText`, `CLIPVision` and `LogitScale` ↔ the public CLIP with temporal layers: keys below `clip.model.`.

The three are separate components; `RULES` is the table of all, for a tree {"text": …, "vision": …, "scale": …}.
"""

from collections.abc import Mapping
from typing import Any

from codi_jax.encoders.clip import CLIPTextConfig, CLIPVisionConfig
from codi_jax.interop.names import Rule, affine, at, norm

_LAYER = [
    *affine("self_attn.q_proj", "query"),
    *affine("self_attn.k_proj", "key"),
    *affine("self_attn.v_proj", "value"),
    *affine("self_attn.out_proj", "out"),
    *norm("layer_norm{n}", "norm{n}"),
    *affine("mlp.fc{n}", "fc{n}"),
]

_TEMPORAL = [
    Rule("temporal_attn.norm.g", "norm/scale"),
    *affine("temporal_attn.to_q", "query", bias=False),
    *affine("temporal_attn.to_kv", "key_value", bias=False),
    *affine("temporal_attn.to_out", "out", bias=False),
    *affine("temporal_rel_pos_bias.net.0.0", "bias/layer_0"),
    *affine("temporal_rel_pos_bias.net.1.0", "bias/layer_1"),
    *affine("temporal_rel_pos_bias.net.2", "bias/layer_2"),
    *affine("ff.proj_in.0", "layer_in", "pointwise1", bias=False),
    Rule("ff.proj_out.0.g", "inner_norm/scale", "gain_1c1"),
    *affine("ff.proj_out.1", "layer_out", "pointwise1", bias=False),
]

TEXT = [
    Rule("text_model.embeddings.token_embedding.weight", "token/embedding"),
    Rule("text_model.embeddings.position_embedding.weight", "position/embedding"),
    *at("text_model.encoder.layers.{layer}", "layer_{layer}", _LAYER),
    *norm("text_model.final_layer_norm", "norm"),
    *affine("text_projection", "projection", bias=False),
]

VISION = [
    Rule("vision_model.embeddings.class_embedding", "class"),
    *affine("vision_model.embeddings.patch_embedding", "patch", "conv2d", bias=False),
    Rule("vision_model.embeddings.position_embedding.weight", "position/embedding"),
    *norm("vision_model.pre_layrnorm", "norm_in"),
    *at("vision_model.encoder.layers.{layer}.temporal_self_attn", "layer_{layer}/temporal", _TEMPORAL),
    *at("vision_model.encoder.layers.{layer}", "layer_{layer}", _LAYER),
    *norm("vision_model.post_layernorm", "norm"),
    *affine("visual_projection", "projection", bias=False),
]

SCALE = [Rule("logit_scale", "log_scale")]

RULES: list[Rule] = [*at("", "text", TEXT), *at("", "vision", VISION), *at("", "scale", SCALE)]

# Pattern of keys that are not read -> reason.
RECOMPUTED = {r"(text|vision)_model\.embeddings\.position_ids": "counts from 0"}
UNREAD = {
    r"vision_model\.encoder\.layers\.[0-9]+\.temporal_self_attn\.temporal_attn\.(pos|frame_rate)_embeds": (
        "tables that the release stores but does not use"
    ),
}
UNREAD_SCALE = {r"logit_scale": "the temperature of CLIP's loss; bridging alignment learns another"}
IGNORE = {**RECOMPUTED, **UNREAD}


def text_config(fields: Mapping[str, Any], projection: int) -> CLIPTextConfig:
    """Translates the release's config fields of the text tower; `projection` is the width of the shared space."""
    return CLIPTextConfig(
        vocab=fields["vocab_size"],
        width=fields["hidden_size"],
        layers=fields["num_hidden_layers"],
        heads=fields["num_attention_heads"],
        feed_forward=fields["intermediate_size"],
        positions=fields["max_position_embeddings"],
        projection=projection,
    )


def vision_config(fields: Mapping[str, Any], projection: int, temporal: bool = True) -> CLIPVisionConfig:
    """Translates the release's config fields of the vision tower; `projection` is the width of the shared space."""
    return CLIPVisionConfig(
        image_size=fields["image_size"],
        patch=fields["patch_size"],
        width=fields["hidden_size"],
        layers=fields["num_hidden_layers"],
        heads=fields["num_attention_heads"],
        feed_forward=fields["intermediate_size"],
        projection=projection,
        temporal=temporal,
    )
