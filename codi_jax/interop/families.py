"""The public checkpoint layouts (other than the release's) in which our components are published.

The last ones, of `FEATURE_WEIGHTS`, hold no component of a CoDi model: see `interop.feature_weights`.

    family = recognise(state)                     detects the layout by the keys of one file
    found, ignored = read(family, state, configs, targets)

`read` returns {component: Found}: a tree of the leaves that the file holds, and the leaves that it does not hold.
AudioLDM's autoencoder has the layout of the image autoencoder: read it with `dataclasses.replace(part, component=…)`.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.interop import autokl, clap, clip, hifigan, inception, optimus, unet, vggish
from codi_jax.interop.diffusers_names import autokl_rules, unet_rules, unet_state
from codi_jax.interop.family import CheckpointPart, Family, Found, first_keys, read, weight_keys
from codi_jax.interop.feature_weights import FeatureWeights
from codi_jax.interop.names import Rule
from codi_jax.interop.transformers_names import (
    bert_state,
    clap_state,
    clip_state,
    gpt2_state,
    hifigan_state,
    laion_state,
)

__all__ = ["FAMILIES", "FEATURE_WEIGHTS", "CheckpointPart", "Family", "Found", "feature_weights", "read", "recognise"]


def _always(rules: list[Rule]) -> Callable[[Any], list[Rule]]:
    """A table that does not depend on the config."""
    return lambda config: rules


_COUNT = "counts from 0"
_EMA = "the EMA of the U-Net, under names without dots; the U-Net itself is read"
_SCHEDULE = "the noise schedule, which is computed"
_LOSS = "the training loss of the autoencoder, including a discriminator"
_CLIP_IGNORE = {**clip.RECOMPUTED, **clip.UNREAD_SCALE}
_FUSED = "CLAP with fusion of several views of a long audio (enable_fusion) is not supported, only CLAP without"
_CLIP_TEXT = r"text_(model|projection)\..*"
_CLIP_VISION = r"(vision_model|visual_projection)\..*"
_TEMPORAL = (r".*/temporal(_[01])?/.*",)  # layers for video
_NO_PROJECTION = ("projection/.*",)
_VISION = _always(clip.VISION)
_TEXT = _always(clip.TEXT)


def _sd_rules(config: Any) -> list[Rule]:
    return unet.body_rules(dataclasses.replace(config, temporal=False))


FEATURE_WEIGHTS: tuple[FeatureWeights[Any], ...] = (inception.WEIGHTS, vggish.WEIGHTS)

FAMILIES: tuple[Family, ...] = (
    Family(
        "Stable Diffusion 1.x, one file (U-Net, autoencoder, CLIP text tower)",
        (r"model\.diffusion_model\.input_blocks\.0\.0\.weight",),
        (
            CheckpointPart("vision_unet", _sd_rules, "model.diffusion_model.", missing=_TEMPORAL),
            CheckpointPart("vision_codec", _always(autokl.RULES), "first_stage_model."),
            CheckpointPart("clip_text", _TEXT, "cond_stage_model.transformer.", missing=_NO_PROJECTION),
        ),
        ignore={
            r"cond_stage_model\.transformer\.text_model\.embeddings\.position_ids": _COUNT,
            r"model_ema\..*": _EMA,
            r"first_stage_model\.loss\..*": _LOSS,
            r"(betas|logvar|(alphas|sqrt|log|posterior)_.*)": _SCHEDULE,
        },
    ),
    Family(
        "Stable Diffusion 1.x, U-Net of diffusers",
        (r"down_blocks\.0\.resnets\.0\.time_emb_proj\.weight",),
        (CheckpointPart("vision_unet", unet_rules, missing=_TEMPORAL),),
        rename=unet_state,
    ),
    Family(
        "KL autoencoder, original",
        (r"encoder\.down\.0\.block\.0\.norm1\.weight",),
        (CheckpointPart("vision_codec", _always(autokl.RULES)),),
        ignore={r"loss\..*": _LOSS, r"model_ema\..*": "the EMA of the autoencoder; the autoencoder itself is read"},
    ),
    Family(
        "KL autoencoder of diffusers",
        (r"encoder\.down_blocks\.0\.resnets\.0\.norm1\.weight",),
        (CheckpointPart("vision_codec", autokl_rules),),
    ),
    Family(
        "CLIP of transformers",
        (r"text_projection\.weight", r"visual_projection\.weight"),
        (
            CheckpointPart("clip_text", _TEXT, keys=_CLIP_TEXT),
            CheckpointPart("clip_vision", _VISION, keys=_CLIP_VISION, missing=_TEMPORAL),
        ),
        ignore=_CLIP_IGNORE,
    ),
    Family(
        "CLIP text tower with projection, of transformers",
        (r"text_model\.embeddings\.token_embedding\.weight", r"text_projection\.weight"),
        (CheckpointPart("clip_text", _TEXT),),
        ignore=_CLIP_IGNORE,
    ),
    Family(
        "CLIP text tower without projection, of transformers",
        (r"(text_model\.)?embeddings\.token_embedding\.weight",),
        (CheckpointPart("clip_text", _TEXT, missing=_NO_PROJECTION),),
        rename=clip_state,
        ignore=_CLIP_IGNORE,
    ),
    Family(
        "CLIP vision tower with projection, of transformers",
        (r"vision_model\.embeddings\.class_embedding", r"visual_projection\.weight"),
        (CheckpointPart("clip_vision", _VISION, missing=_TEMPORAL),),
        ignore=_CLIP_IGNORE,
    ),
    Family(
        "CLIP vision tower without projection, of transformers",
        (r"(vision_model\.)?embeddings\.class_embedding",),
        (CheckpointPart("clip_vision", _VISION, missing=(*_TEMPORAL, *_NO_PROJECTION)),),
        rename=clip_state,
        ignore=_CLIP_IGNORE,
    ),
    Family(
        "CLAP of transformers",
        (r"audio_model\.audio_encoder\.patch_embed\.proj\.weight", r"audio_projection\.linear1\.weight"),
        (CheckpointPart("clap_audio", _always(clap.RULES)),),
        rename=clap_state,
        ignore=clap.IGNORE,
        refuse={r"audio_model\.audio_encoder\.patch_embed\.(fusion_model|mel_conv2d)\..*": _FUSED},
    ),
    Family(
        "CLAP of LAION",
        (r"(module\.)?audio_branch\.patch_embed\.proj\.weight", r"(module\.)?audio_projection\.0\.weight"),
        (CheckpointPart("clap_audio", _always(clap.RULES)),),
        rename=laion_state,
        ignore=clap.IGNORE,
        refuse={r"(module\.)?audio_branch\.patch_embed\.(fusion_model|mel_conv2d)\..*": _FUSED},
    ),
    Family(
        "BERT of transformers",
        (
            r"(bert\.)?embeddings\.word_embeddings\.weight",
            r"(bert\.)?encoder\.layer\.0\.attention\.self\.query\.weight",
        ),
        (CheckpointPart("text_codec", _always(optimus.RULES), missing=("moments/.*", "decoder/.*")),),
        rename=bert_state,
        ignore={r"encoder\.embeddings\.position_ids": _COUNT, r"cls\..*": "a head of BERT's pretraining"},
    ),
    Family(
        "GPT-2 of transformers",
        (r"(transformer\.)?wte\.weight", r"(transformer\.)?h\.0\.attn\.c_attn\.weight"),
        (
            CheckpointPart(
                "text_codec",
                _always(optimus.RULES),
                missing=("encoder/.*", "moments/.*", "decoder/(memory|latent)/.*"),
                rows=("decoder/token/embedding",),
            ),
        ),
        rename=gpt2_state,
        ignore={
            **optimus.RECOMPUTED,
            r"decoder\.transformer\.h\.[0-9]+\.attn\.masked_bias": "the value of masked logits",
        },
    ),
    Family(
        "HiFi-GAN generator",
        (
            r"(generator\.)?conv_pre\.(weight|weight_v|parametrizations\.weight\.original1)",
            r"(generator\.)?(ups|upsampler)\.0\.(weight|weight_v|parametrizations\.weight\.original1)",
        ),
        (CheckpointPart("vocoder", _always(hifigan.RULES)),),
        rename=hifigan_state,
        ignore={r"(mean|scale)": "a normalization of the spectrogram with mean 0 and scale 1"},
    ),
    *(weights.family for weights in FEATURE_WEIGHTS),
)


def recognise(keys: Iterable[str]) -> Family:
    """Detects the family of a file.

    Args:
      keys: the keys of its tensors.

    Raises:
      ConfigError: no family matches, or its family refuses the file.
    """
    keys = list(weight_keys(list(keys)))
    for family in FAMILIES:
        if family.matches(keys):
            family.check_supported(keys)
            return family
    known = "; ".join(family.name for family in FAMILIES)
    raise ConfigError(f"a file of unknown layout ({first_keys(keys)}, …). Supported are CoDi's release and: {known}")


def feature_weights(keys: Iterable[str]) -> FeatureWeights[Any] | None:
    """The feature network of a file with these keys; None if it holds something else."""
    keys = weight_keys(list(keys))
    return next((weights for weights in FEATURE_WEIGHTS if weights.family.matches(keys)), None)
