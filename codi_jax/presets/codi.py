"""CoDi at the paper's size, with the hyperparameters of the public release.

CLIP ViT-L/14 for text, images and videos; CLAP's HTSAT-large; the KL-f8 codec; the codec of spectrograms and its
HiFi-GAN; Optimus (BERT, GPT-2); three U-Nets of 0.43 to 2.05 billion parameters. The classes are those of the small
presets; only sizes differ.

By default every output attends to the others, and image and video have separate environment encoders.
`compat="release"` is the public code exactly: one environment encoder for image and video, each output attending to its
own token, the aliased skip connection, captions sampled instead of decoded greedily.
"""

from typing import Any, Literal

from codi_jax.codi import CoDiConfig, register
from codi_jax.config import ConfigError
from codi_jax.data.tokenizer import VOCABULARIES, make_tokenizer
from codi_jax.encoders.autokl import AutoKLConfig
from codi_jax.encoders.bert import BertConfig
from codi_jax.encoders.clap import CLAPAudioConfig
from codi_jax.encoders.clip import CLIPTextConfig, CLIPVisionConfig
from codi_jax.encoders.gpt2 import GPT2Config
from codi_jax.encoders.hifigan import HiFiGANConfig
from codi_jax.encoders.optimus import OptimusConfig
from codi_jax.media.images import CLIPPixels
from codi_jax.media.mel import MelConfig
from codi_jax.modalities.audio import AudioConfig
from codi_jax.modalities.image import ImageConfig
from codi_jax.modalities.text import TextConfig
from codi_jax.modalities.video import VideoConfig
from codi_jax.nn.config import EnvironmentConfig, TimingConfig, UNetConfig
from codi_jax.presets.options import subset

MODALITIES = ("text", "image", "audio", "video")
WIDTH = 768  # D, the prompt space
ENVIRONMENT_WIDTH = 1280  # E
TOKENIZERS = "weights/tokenizers"
Kind = Literal["vector", "spatial"]
Compat = Literal["true", "release"]
DType = Literal["float32", "bfloat16", "float16"]


def unet(kind: Kind, latent_channels: int, channels: int, **options: Any) -> UNetConfig:
    """One of the three U-Nets."""
    return UNetConfig(
        kind=kind, latent_channels=latent_channels, channels=channels, context_width=WIDTH,
        multipliers=(1, 2, 4, 4), blocks=(2, 2, 2, 2), attention_levels=(True, True, True, False),
        cross_modal_levels=(True, True, True, False), heads=8, groups=32, **options,
    )  # fmt: skip


def environment(kind: Kind, latent_channels: int, channels: int, **options: Any) -> EnvironmentConfig:
    """The environment encoder V of the same modality."""
    return EnvironmentConfig(
        kind=kind, latent_channels=latent_channels, channels=channels, width=ENVIRONMENT_WIDTH,
        multipliers=(1, 2, 4), blocks=(1, 1, 1), groups=32, tokens="pooled", normalize=True, **options,
    )  # fmt: skip


def timing(latent_channels: int, levels: tuple[int, ...], **options: Any) -> TimingConfig:
    """Attention in time where X is, too; `levels` are the multipliers of its encoder. It is not in the release."""
    return TimingConfig(
        encoder=EnvironmentConfig(
            kind="spatial", latent_channels=latent_channels, channels=192, width=ENVIRONMENT_WIDTH, multipliers=levels,
            blocks=(1,) * len(levels), groups=32, tokens="time", normalize=True, **options,
        ),
        levels=(True, True, True, False),
        heads=8,
        periods=(0.1, 20.0),
    )  # fmt: skip


def text(tokenizers: str, sample: bool) -> TextConfig:
    """CLIP's text tower, Optimus, the U-Net of vectors."""
    bos, eos, pad = 50258, 50259, 50257  # added by Optimus to GPT-2's 50257 tokens
    names = tuple(
        name + tokenizers + end for name, end in (("", "/clip"), ("bert-optimus:", "/bert"), ("gpt2-optimus:", "/gpt2"))
    )
    if tokenizers in VOCABULARIES:
        words = make_tokenizer(tokenizers)
        (bos, eos, pad), names = (words.bos, words.eos, words.pad), (tokenizers,) * 3
    return TextConfig(
        tokenizers=names,
        length=(77, 64, 30),
        lower=True,
        temperature=1.0 if sample else 0.0,
        tidy=True,
        codec=OptimusConfig(
            encoder=BertConfig(vocab=28996, width=768, layers=12, heads=12, feed_forward=3072, positions=512),
            decoder=GPT2Config(vocab=50260, width=768, layers=12, heads=12, feed_forward=3072, positions=1024),
            latent=768, bos=bos, eos=eos, pad=pad,
        ),
        prompt=CLIPTextConfig(
            vocab=49408, width=768, layers=12, heads=12, feed_forward=3072, positions=77, projection=WIDTH
        ),
        denoiser=unet("vector", 768, 320, vector_tokens=4),
        environment=environment("vector", 768, 320, vector_tokens=4),
    )  # fmt: skip


TEMPORAL = {"temporal": True, "temporal_heads": 8, "temporal_divisor": 4, "max_frames": 30}


def vision(size: int, shared: bool) -> dict[str, Any]:
    """The fields that image and video share: KL-f8, CLIP's vision tower, one U-Net with temporal layers."""
    return {
        "size": size,
        "clip": CLIPPixels(),
        "codec": AutoKLConfig(
            in_channels=3, channels=128, mult=(1, 2, 4, 4), blocks=2, z_channels=4, embed_dim=4
        ),
        "prompt": CLIPVisionConfig(
            image_size=224, patch=14, width=1024, layers=24, heads=16, feed_forward=4096, projection=WIDTH,
            temporal=True,
        ),
        "denoiser": unet("spatial", 4, 320, **TEMPORAL),
        "environment": environment("spatial", 4, 320, **TEMPORAL),
        "components": {"environment": "vision_environment", "cross": "vision_cross"} if shared else {},
    }  # fmt: skip


def audio(timed: bool) -> AudioConfig:
    """10.24 s at 16 kHz, 1024 x 64 mels."""
    return AudioConfig(
        mel=MelConfig(sample_rate=16000, n_fft=1024, hop=160, mels=64, fmin=0.0, fmax=8000.0),
        frames=1024,
        normalize=True,
        prompt_mel=MelConfig(
            sample_rate=48000, n_fft=1024, hop=480, mels=64, fmin=50.0, fmax=14000.0, power=2, decibels=True,
            floor=1e-10,
        ),
        prompt_samples=480_000,
        codec=AutoKLConfig(in_channels=1, channels=128, mult=(1, 2, 4), blocks=2, z_channels=8, embed_dim=8),
        prompt=CLAPAudioConfig(
            mel_bins=64, spec_size=256, patch_size=4, patch_stride=(4, 4), embed_dim=256, depths=(2, 2, 12, 2),
            num_heads=(4, 8, 16, 32), window=8, projection=WIDTH,
        ),
        vocoder=HiFiGANConfig(
            mels=64, channels=1024, rates=(5, 4, 2, 2, 2), kernels=(16, 16, 8, 4, 4), res_kernels=(3, 7, 11),
            res_dilations=((1, 3, 5),) * 3,
        ),
        denoiser=unet("spatial", 8, 192),
        environment=environment("spatial", 8, 192),
        timing=timing(8, (1, 2)) if timed else None,
    )  # fmt: skip


@register("codi")
def model(
    *,
    compat: Compat = "true",
    modalities: str | tuple[str, ...] = MODALITIES,
    size: int = 256,
    frames: int = 8,
    dtype: DType = "bfloat16",
    tokenizers: str = TOKENIZERS,
    timed: bool = False,
) -> CoDiConfig:
    """The model.

    Args:
      compat: `true`, or `release` for the public code.
      modalities: a subset of MODALITIES, as names or joined by "+".
      size: pixels per side of images and videos.
      frames: of a video.
      dtype: of computation.
      tokenizers: a folder with `clip` (as saved by transformers), `bert` and `gpt2` (their vocabulary files), or the
        name of one of our vocabularies, for use with random weights.
      timed: audio and video have attention in time, which the release does not have.

    Raises:
      ConfigError: an invalid option.
    """
    release = compat == "release"
    if timed and release:
        raise ConfigError("option timed: the release has no attention in time")
    everything = {
        "text": text(tokenizers, release),
        "image": ImageConfig(**vision(size, release), read_size=512),
        "audio": audio(timed),
        "video": VideoConfig(
            **vision(size, release), frames=frames, rate=4.0, resize="torch", read_size=256,
            timing=timing(4, (1, 2, 4), **TEMPORAL) if timed else None,
        ),
    }  # fmt: skip
    return CoDiConfig(
        modalities={name: everything[name] for name in subset(modalities, MODALITIES)},
        width=WIDTH,
        environment_width=ENVIRONMENT_WIDTH,
        compat=compat,
        prediction="eps",
        schedule="scaled_linear",
        null="empty",
        environment_tokens="pooled",
        dtype=dtype,
    )
