"""`encoders.Optimus` ↔ the public Optimus: keys below `optimus.`.

Matrices are [in, out] in GPT-2, as in ours, and [out, in] in BERT.
"""

from collections.abc import Mapping
from typing import Any

from codi_jax.encoders.bert import BertConfig
from codi_jax.encoders.gpt2 import GPT2Config
from codi_jax.encoders.optimus import OptimusConfig
from codi_jax.interop.names import Rule, affine, at, norm

_BERT_LAYER = [
    *affine("attention.self.{part:query|key|value}", "{part:query|key|value}"),
    *affine("attention.output.dense", "out"),
    *norm("attention.output.LayerNorm", "attention_norm"),
    *affine("intermediate.dense", "fc1"),
    *affine("output.dense", "fc2"),
    *norm("output.LayerNorm", "norm"),
]

_BERT = [
    Rule("embeddings.word_embeddings.weight", "embeddings/token/embedding"),
    Rule("embeddings.position_embeddings.weight", "embeddings/position/embedding"),
    Rule("embeddings.token_type_embeddings.weight", "embeddings/type/embedding"),
    *norm("embeddings.LayerNorm", "embeddings/norm"),
    *at("encoder.layer.{layer}", "layer_{layer}", _BERT_LAYER),
    *affine("pooler.dense", "pooler"),
]

_GPT2_LAYER = [
    *norm("ln_{n}", "norm{n}"),
    *affine("attn.c_attn", "qkv", "same"),
    *affine("attn.c_proj", "out", "same"),
    *affine("mlp.c_fc", "fc1", "same"),
    *affine("mlp.c_proj", "fc2", "same"),
]

_GPT2 = [
    Rule("transformer.wte.weight", "token/embedding"),
    Rule("lm_head.weight", "token/embedding", tied=True),
    Rule("transformer.wpe.weight", "position/embedding"),
    *at("transformer.h.{layer}", "layer_{layer}", _GPT2_LAYER),
    *norm("transformer.ln_f", "norm"),
    *affine("transformer.linear", "memory", bias=False),
    *affine("transformer.linear_emb", "latent", bias=False),
]

RULES: list[Rule] = [
    *at("encoder", "encoder", _BERT),
    *affine("encoder.linear", "moments", bias=False),
    *at("decoder", "decoder", _GPT2),
]

# Pattern of keys that are not read -> reason.
RECOMPUTED = {r"decoder\.transformer\.h\.[0-9]+\.attn\.bias": "a causal mask"}
IGNORE = RECOMPUTED


def config(
    encoder: Mapping[str, Any], decoder: Mapping[str, Any], latent: int, bos: int, eos: int, pad: int
) -> OptimusConfig:
    """Translates the release's config fields.

    Args:
      encoder: the fields of BERT.
      decoder: the fields of GPT-2.
      latent: width of the latent.
      bos: token id of the decoder's beginning of sequence.
      eos: token id of its end of sequence.
      pad: token id of its padding.
    """
    return OptimusConfig(
        encoder=BertConfig(
            vocab=encoder["vocab_size"],
            width=encoder["hidden_size"],
            layers=encoder["num_hidden_layers"],
            heads=encoder["num_attention_heads"],
            feed_forward=encoder["intermediate_size"],
            positions=encoder["max_position_embeddings"],
            types=encoder["type_vocab_size"],
        ),
        decoder=GPT2Config(
            vocab=decoder["vocab_size"],
            width=decoder["n_embd"],
            layers=decoder["n_layer"],
            heads=decoder["n_head"],
            feed_forward=4 * decoder["n_embd"],
            positions=decoder["n_positions"],
        ),
        latent=latent,
        bos=bos,
        eos=eos,
        pad=pad,
    )
