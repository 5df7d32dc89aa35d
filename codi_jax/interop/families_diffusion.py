"""The public layouts of diffusion models and of their autoencoders, whole or in parts: see `families`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from codi_jax.interop import autokl, clap, clip, hifigan, unet
from codi_jax.interop.diffusers_names import autokl_rules, unet_rules, unet_state
from codi_jax.interop.family import NO_PROJECTION, TEMPORAL, CheckpointPart, Family, always
from codi_jax.interop.names import Rule
from codi_jax.interop.transformers_names import sd_state


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


_EMA = "moving averages, which --ema reads in place of the weights"
_LOSS = "the training loss of the autoencoder, including a discriminator"
_FILM = "AudioLDM's U-Net, into which CLAP's embedding enters by FiLM; ours attends to it, so none is read"
_IGNORE = {
    r"model_ema\..*": _EMA,
    r"first_stage_model\.loss\..*": _LOSS,
    r"(betas|logvar|(alphas|sqrt|log|posterior)_.*)": "the noise schedule, which is computed",
    r"scale_factor": "the scale of latents, a constant of our codec",
}
_CODEC_KEYS = r"(encoder|decoder|quant_conv|post_quant_conv)\..*"
_VAE = (r"first_stage_model\.", r"vae\.")

DIFFUSION: tuple[Family, ...] = (
    Family(
        "AudioLDM, one file (autoencoder, HiFi-GAN, CLAP)",
        (r"first_stage_model\.vocoder\.conv_pre\.(weight|weight_v)", r"first_stage_model\.encoder\.conv_in\.weight"),
        (
            CheckpointPart(
                "audio_codec",
                always(autokl.RULES),
                "first_stage_model.",
                keys=_CODEC_KEYS,
            ),
            CheckpointPart("vocoder", always(hifigan.RULES), "first_stage_model.vocoder."),
            CheckpointPart("clap_audio", always(clap.RULES), "cond_stage_model.model.", keys=r"audio_.*"),
        ),
        rename=hifigan.fused,
        ignore={
            r"model\.diffusion_model\..*": "AudioLDM's U-Net, which its prompts enter in another way than ours",
            **_IGNORE,
            **{rf"first_stage_model\.{pattern}": why for pattern, why in autokl.RECOMPUTED.items()},
            **{rf"cond_stage_model\.model\.{pattern}": why for pattern, why in clap.IGNORE.items()},
            r"cond_stage_model\.mel_transform\..*": "a Fourier basis or filter bank, which the mel front end computes",
            r"(cond_stage_models|clap)\..*": "prompt encoders of AudioLDM 2, which ours are not",
        },
        refuse={r"cond_stage_model\.model\.audio_branch\.patch_embed\.(fusion_model|mel_conv2d)\..*": clap.FUSED},
    ),
    Family(
        "Stable Diffusion 1.x, one file (U-Net, autoencoder, CLIP text tower)",
        (r"model\.diffusion_model\.input_blocks\.0\.0\.weight", r"(first_stage_model|cond_stage_model)\..*"),
        (
            CheckpointPart("vision_unet", _sd_rules, "model.diffusion_model.", missing=TEMPORAL),
            CheckpointPart("vision_codec", always(autokl.RULES), "first_stage_model."),
            CheckpointPart("clip_text", always(clip.TEXT), "cond_stage_model.transformer.", missing=NO_PROJECTION),
        ),
        rename=sd_state,
        ignore={
            r"cond_stage_model\.transformer\.text_model\.embeddings\.position_ids": "counts from 0",
            r"cond_stage_model\.(logit_scale|text_projection)": "of CLIP's loss, which diffusion does not use",
            **_IGNORE,
            r"control_model\..*": "a ControlNet, which ours has not",
            r"embedding_manager\..*": "the token of a textual inversion",
        },
        refuse={r"model\.diffusion_model\.film_emb\..*": _FILM},
    ),
    Family(
        "Stable Diffusion 1.x, U-Net alone",
        (r"input_blocks\.0\.0\.weight",),
        (CheckpointPart("vision_unet", _sd_rules, missing=TEMPORAL),),
        refuse={r"film_emb\..*": _FILM, r"input_hint_block\..*": "a ControlNet, which is no U-Net"},
        inside=(r"(?:diffusion_model|unet)\.",),
    ),
    Family(
        "Stable Diffusion 1.x, U-Net of diffusers",
        (r"down_blocks\.0\.resnets\.0\.time_emb_proj\.weight",),
        (CheckpointPart("vision_unet", unet_rules, missing=TEMPORAL),),
        rename=unet_state,
        refuse={r"class_embedding\..*": _FILM},
        inside=(r"unet\.",),
    ),
    Family(
        "KL autoencoder, original (of AudioLDM: with HiFi-GAN)",
        (r"encoder\.down\.0\.block\.0\.norm1\.weight",),
        (
            *_codec(always(autokl.RULES), keys=_CODEC_KEYS),
            CheckpointPart("vocoder", always(hifigan.RULES), "vocoder."),
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
)
