"""The public checkpoint layouts (other than the release's) in which our components are published.

The last ones, of `FEATURE_WEIGHTS`, hold no component of a CoDi model: see `interop.feature_weights`.

    family = recognise(state)                     detects the layout by the keys of one file
    found, ignored = read(family, state, configs, targets)

`read` returns {component: Found}: a tree of the leaves that the file holds, and the leaves that it does not hold. Files
that are recognised, but not read, are listed in `unsupported`.
"""

from collections.abc import Collection, Iterable
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.interop import clap, clip, hifigan, inception, optimus, unsupported, vggish
from codi_jax.interop.ema import averages_alone
from codi_jax.interop.families_diffusion import DIFFUSION
from codi_jax.interop.family import NO_PROJECTION, TEMPORAL, CheckpointPart, Family, Found, always, first_keys, read
from codi_jax.interop.feature_weights import FeatureWeights
from codi_jax.interop.open_clip_names import open_clip_state
from codi_jax.interop.transformers_names import (
    bert_state,
    clap_state,
    clip_state,
    gpt2_state,
    hifigan_state,
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


_COUNT = "counts from 0"
_CLIP_IGNORE = {**clip.RECOMPUTED, **clip.UNREAD_SCALE}
_CLIP_TEXT = r"text_(model|projection)\..*"
_CLIP_VISION = r"(vision_model|visual_projection)\..*"
_VISION = always(clip.VISION)
_TEXT = always(clip.TEXT)
_IN_SD = (r"cond_stage_model\.transformer\.", r"text_encoder\.")

FEATURE_WEIGHTS: tuple[FeatureWeights[Any], ...] = (inception.WEIGHTS, vggish.WEIGHTS)

FAMILIES: tuple[Family, ...] = (
    *DIFFUSION,
    Family(
        "CLIP of transformers",
        (r"text_projection\.weight", r"visual_projection\.weight"),
        (
            CheckpointPart("clip_text", _TEXT, keys=_CLIP_TEXT),
            CheckpointPart("clip_vision", _VISION, keys=_CLIP_VISION, missing=TEMPORAL),
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
        (CheckpointPart("clip_text", _TEXT, missing=NO_PROJECTION),),
        rename=clip_state,
        ignore=_CLIP_IGNORE,
        inside=_IN_SD,
    ),
    Family(
        "CLIP vision tower with projection, of transformers",
        (r"vision_model\.embeddings\.class_embedding", r"visual_projection\.weight"),
        (CheckpointPart("clip_vision", _VISION, missing=TEMPORAL),),
        ignore=_CLIP_IGNORE,
    ),
    Family(
        "CLIP vision tower without projection, of transformers",
        (r"(vision_model\.)?embeddings\.class_embedding",),
        (CheckpointPart("clip_vision", _VISION, missing=(*TEMPORAL, *NO_PROJECTION)),),
        rename=clip_state,
        ignore=_CLIP_IGNORE,
    ),
    Family(
        "CLIP of OpenAI or open_clip",
        (r"((visual|text)\.)?transformer\.resblocks\.0\.attn\.in_proj_weight",),
        (
            CheckpointPart("clip_text", _TEXT, keys=_CLIP_TEXT),
            CheckpointPart("clip_vision", _VISION, keys=_CLIP_VISION, missing=TEMPORAL),
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
        (CheckpointPart("clap_audio", always(clap.RULES)),),
        rename=clap_state,
        ignore=clap.IGNORE,
        refuse={r"audio_model\.audio_encoder\.patch_embed\.(fusion_model|mel_conv2d)\..*": clap.FUSED},
    ),
    Family(
        "CLAP of LAION",
        (r"audio_branch\.patch_embed\.proj\.weight", r"audio_projection\.0\.weight"),
        (CheckpointPart("clap_audio", always(clap.RULES)),),
        ignore=clap.IGNORE,
        refuse={r"audio_branch\.patch_embed\.(fusion_model|mel_conv2d)\..*": clap.FUSED},
        inside=(r"cond_stage_model\.model\.",),
    ),
    Family(
        "BERT of transformers",
        (
            r"(bert\.)?embeddings\.word_embeddings\.weight",
            r"(bert\.)?encoder\.layer\.0\.attention\.self\.query\.weight",
        ),
        (CheckpointPart("text_codec", always(optimus.RULES), missing=("moments/.*", "decoder/.*")),),
        rename=bert_state,
        ignore={r"encoder\.embeddings\.position_ids": _COUNT, r"cls\..*": "a head of BERT's pretraining"},
    ),
    Family(
        "GPT-2 of transformers",
        (r"(transformer\.)?wte\.weight", r"(transformer\.)?h\.0\.attn\.c_attn\.weight"),
        (
            CheckpointPart(
                "text_codec",
                always(optimus.RULES),
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
        (CheckpointPart("vocoder", always(hifigan.RULES)),),
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
    if alone := averages_alone(keys):
        raise ConfigError(alone)
    raise ConfigError(f"a file of unknown layout ({first_keys(keys)}, …). Supported are {_READ}: docs/weights.md")


def feature_weights(keys: Iterable[str]) -> FeatureWeights[Any] | None:
    """The feature network of a file with these keys; None if it holds something else."""
    keys = list(keys)
    return next((weights for weights in FEATURE_WEIGHTS if weights.family.root(keys) is not None), None)
