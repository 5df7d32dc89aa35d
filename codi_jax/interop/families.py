"""The public checkpoint layouts (other than the release's) in which our components are published.

The last ones, of `FEATURE_WEIGHTS`, hold no component of a CoDi model: see `interop.feature_weights`.

    family = recognise(state)                     detects the layout by the keys of one file
    found, ignored = read(family, state, configs, targets)

`read` returns {component: Found}: a tree of the leaves that the file holds, and the leaves that it does not hold. Files
that are recognised, but not read, are listed in `unsupported`.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop import autokl, clap, clip, hifigan, inception, optimus, unet, unsupported, vggish
from codi_jax.interop.diffusers_names import autokl_rules, unet_rules, unet_state
from codi_jax.interop.family import CheckpointPart, Family, Found, first_keys, read
from codi_jax.interop.feature_weights import FeatureWeights
from codi_jax.interop.names import Rule
from codi_jax.interop.open_clip_names import open_clip_state
from codi_jax.interop.transformers_names import (
    bert_state,
    clap_state,
    clip_state,
    gpt2_state,
    hifigan_state,
    sd_state,
)

__all__ = [
    "FAMILIES",
    "FEATURE_WEIGHTS",
    "CheckpointPart",
    "Family",
    "Found",
    "family_of",
    "feature_weights",
    "read",
    "recognise",
]


def _always(rules: list[Rule]) -> Callable[[Any], list[Rule]]:
    """A table that does not depend on the config."""
    return lambda config: rules


def _sd_rules(config: Any) -> list[Rule]:
    return unet.body_rules(dataclasses.replace(config, temporal=False))


def _of_spectrograms(tensors: Mapping[str, Any]) -> bool:
    """Whether an autoencoder has the one input channel of a spectrogram; those of images have three."""
    return np.shape(tensors.get("encoder.conv_in.weight", ()))[1:2] == (1,)


def _of_images(tensors: Mapping[str, Any]) -> bool:
    return bool(tensors) and not _of_spectrograms(tensors)


def _codec(rules: Callable[[Any], list[Rule]], keys: str = ".*") -> tuple[CheckpointPart, CheckpointPart]:
    """An autoencoder, of images or of spectrograms."""
    return (
        CheckpointPart("vision_codec", rules, keys=keys, when=_of_images),
        CheckpointPart("audio_codec", rules, keys=keys, when=_of_spectrograms),
    )


_COUNT = "counts from 0"
_EMA = "moving averages, which --ema reads in place of the weights"
_SCHEDULE = "the noise schedule, which is computed"
_SCALE = "the scale of latents, a constant of our codec"
_LOSS = "the training loss of the autoencoder, including a discriminator"
_CLIP_IGNORE = {**clip.RECOMPUTED, **clip.UNREAD_SCALE}
_DIFFUSION_IGNORE = {
    r"model_ema\..*": _EMA,
    r"first_stage_model\.loss\..*": _LOSS,
    r"(betas|logvar|(alphas|sqrt|log|posterior)_.*)": _SCHEDULE,
    r"scale_factor": _SCALE,
}
_FUSED = "CLAP with fusion of several views of a long audio (enable_fusion) is not supported, only CLAP without"
_FILM = "AudioLDM's U-Net, into which CLAP's embedding enters by FiLM; ours attends to it, so none is read"
_CODEC_KEYS = r"(encoder|decoder|quant_conv|post_quant_conv)\..*"
_CLIP_TEXT = r"text_(model|projection)\..*"
_CLIP_VISION = r"(vision_model|visual_projection)\..*"
_TEMPORAL = (r".*/temporal(_[01])?/.*",)  # layers for video
_NO_PROJECTION = ("projection/.*",)
_VISION = _always(clip.VISION)
_TEXT = _always(clip.TEXT)
_IN_SD = (r"cond_stage_model\.transformer\.", r"text_encoder\.")
_VAE = (r"first_stage_model\.", r"vae\.")
_SD = r"model\.diffusion_model\.input_blocks\.0\.0\.weight"

FEATURE_WEIGHTS: tuple[FeatureWeights[Any], ...] = (inception.WEIGHTS, vggish.WEIGHTS)

FAMILIES: tuple[Family, ...] = (
    Family(
        "AudioLDM, one file (autoencoder, HiFi-GAN, CLAP)",
        (r"first_stage_model\.vocoder\.conv_pre\.(weight|weight_v)", r"first_stage_model\.encoder\.conv_in\.weight"),
        (
            CheckpointPart(
                "audio_codec",
                _always(autokl.RULES),
                "first_stage_model.",
                keys=_CODEC_KEYS,
            ),
            CheckpointPart("vocoder", _always(hifigan.RULES), "first_stage_model.vocoder."),
            CheckpointPart("clap_audio", _always(clap.RULES), "cond_stage_model.model.", keys=r"audio_.*"),
        ),
        rename=hifigan.fused,
        ignore={
            r"model\.diffusion_model\..*": "AudioLDM's U-Net, which its prompts enter in another way than ours",
            **_DIFFUSION_IGNORE,
            r"first_stage_model\.fn_STFT\..*": "a Fourier basis or filter bank, which the mel front end computes",
            **{rf"cond_stage_model\.model\.{pattern}": why for pattern, why in clap.IGNORE.items()},
            r"cond_stage_model\.mel_transform\..*": "a Fourier basis or filter bank, which the mel front end computes",
            r"(cond_stage_models|clap)\..*": "prompt encoders of AudioLDM 2, which ours are not",
        },
        refuse={r"cond_stage_model\.model\.audio_branch\.patch_embed\.(fusion_model|mel_conv2d)\..*": _FUSED},
    ),
    Family(
        "Stable Diffusion 1.x, one file (U-Net, autoencoder, CLIP text tower)",
        (_SD, r"(first_stage_model|cond_stage_model)\..*"),
        (
            CheckpointPart("vision_unet", _sd_rules, "model.diffusion_model.", missing=_TEMPORAL),
            CheckpointPart("vision_codec", _always(autokl.RULES), "first_stage_model."),
            CheckpointPart("clip_text", _TEXT, "cond_stage_model.transformer.", missing=_NO_PROJECTION),
        ),
        rename=sd_state,
        ignore={
            r"cond_stage_model\.transformer\.text_model\.embeddings\.position_ids": _COUNT,
            r"cond_stage_model\.(logit_scale|text_projection)": "of CLIP's loss, which diffusion does not use",
            **_DIFFUSION_IGNORE,
            r"control_model\..*": "a ControlNet, which ours has not",
            r"embedding_manager\..*": "the token of a textual inversion",
        },
        refuse={r"model\.diffusion_model\.film_emb\..*": _FILM},
    ),
    Family(
        "Stable Diffusion 1.x, U-Net alone",
        (r"input_blocks\.0\.0\.weight",),
        (CheckpointPart("vision_unet", _sd_rules, missing=_TEMPORAL),),
        refuse={r"film_emb\..*": _FILM, r"input_hint_block\..*": "a ControlNet, which is no U-Net"},
        inside=(r"diffusion_model\.",),
    ),
    Family(
        "Stable Diffusion 1.x, U-Net of diffusers",
        (r"down_blocks\.0\.resnets\.0\.time_emb_proj\.weight",),
        (CheckpointPart("vision_unet", unet_rules, missing=_TEMPORAL),),
        rename=unet_state,
        refuse={r"class_embedding\..*": _FILM},
        inside=(r"unet\.",),
    ),
    Family(
        "KL autoencoder, original (of AudioLDM: with HiFi-GAN)",
        (r"encoder\.down\.0\.block\.0\.norm1\.weight",),
        (
            *_codec(_always(autokl.RULES), keys=_CODEC_KEYS),
            CheckpointPart("vocoder", _always(hifigan.RULES), "vocoder."),
        ),
        rename=hifigan.fused,
        ignore={**autokl.RECOMPUTED, r"loss\..*": _LOSS, r"model_ema\..*": _EMA},
        inside=_VAE,
    ),
    Family(
        "KL autoencoder of diffusers",
        (r"encoder\.down_blocks\.0\.resnets\.0\.norm1\.weight",),
        _codec(autokl_rules),
        inside=_VAE,
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
        inside=_IN_SD,
    ),
    Family(
        "CLIP text tower without projection, of transformers",
        (r"(text_model\.)?embeddings\.token_embedding\.weight",),
        (CheckpointPart("clip_text", _TEXT, missing=_NO_PROJECTION),),
        rename=clip_state,
        ignore=_CLIP_IGNORE,
        inside=_IN_SD,
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
        "CLIP of OpenAI or open_clip",
        (r"((visual|text)\.)?transformer\.resblocks\.0\.attn\.in_proj_weight",),
        (
            CheckpointPart("clip_text", _TEXT, keys=_CLIP_TEXT),
            CheckpointPart("clip_vision", _VISION, keys=_CLIP_VISION, missing=_TEMPORAL),
        ),
        rename=open_clip_state,
        ignore={
            **_CLIP_IGNORE,
            r"(input_resolution|context_length|vocab_size)": "a size, which the config has",
            r"(text\.)?attn_mask": "the causal mask",
        },
        refuse={r"visual\.(layer1|trunk)\..*": "an image tower that is not CLIP's ViT, as ours; give CLIP ViT-L/14"},
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
        (r"audio_branch\.patch_embed\.proj\.weight", r"audio_projection\.0\.weight"),
        (CheckpointPart("clap_audio", _always(clap.RULES)),),
        ignore=clap.IGNORE,
        refuse={r"audio_branch\.patch_embed\.(fusion_model|mel_conv2d)\..*": _FUSED},
        inside=(r"cond_stage_model\.model\.",),
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
            r"conv_pre\.(weight|weight_v|parametrizations\.weight\.original1)",
            r"(ups|upsampler)\.0\.(weight|weight_v|parametrizations\.weight\.original1)",
        ),
        (CheckpointPart("vocoder", _always(hifigan.RULES)),),
        rename=hifigan_state,
        ignore={r"(mean|scale)": "a normalization of the spectrogram with mean 0 and scale 1"},
        refuse={r"resblocks\.[0-9]+\.convs\.[0-9]+\..*": "the residual blocks of HiFi-GAN's V3; V1 and V2 are read"},
        inside=(r"first_stage_model\.", r"vocoder\."),
    ),
    *(weights.family for weights in FEATURE_WEIGHTS),
)

_READ = (
    "CoDi's release, Stable Diffusion 1.x, KL autoencoders, CLIP, CLAP, AudioLDM, BERT, GPT-2, HiFi-GAN, Inception-v3 "
    "of FID and VGGish"
)


def family_of(keys: Collection[str]) -> Family | None:
    """The family of a file with these keys; None if it is of none.

    Raises:
      ConfigError: its layout is one that is known and not read, or its family refuses it.
    """
    for kind in (*unsupported.FIRST, *FAMILIES):
        if isinstance(kind, Family) and kind.root(keys) is not None:
            kind.check_supported(keys)
            return kind
        if isinstance(kind, unsupported.Unsupported) and kind.matches(keys):
            raise ConfigError(kind.message)
    return None


def recognise(keys: Iterable[str]) -> Family:
    """Detects the family of a file.

    Args:
      keys: the keys of its tensors.

    Raises:
      ConfigError: no family matches, or its family refuses the file.
    """
    keys = list(keys)
    if family := family_of(keys):
        return family
    for kind in unsupported.OTHERS:
        if kind.matches(keys):
            raise ConfigError(kind.message)
    raise ConfigError(f"a file of unknown layout ({first_keys(keys)}, …). Supported are {_READ}: docs/weights.md")


def feature_weights(keys: Iterable[str]) -> FeatureWeights[Any] | None:
    """The feature network of a file with these keys; None if it holds something else."""
    keys = list(keys)
    return next((weights for weights in FEATURE_WEIGHTS if weights.family.root(keys) is not None), None)
