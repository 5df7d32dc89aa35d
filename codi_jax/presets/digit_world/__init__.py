"""CoDi on text, image, audio and video in the smallest sizes that meet the floors: the packaged model.

Video has its own U-Net and CLIP tower, since temporal layers alone do not learn motion in a few minutes; it shares the
codec of image. The recipe is in `recipe.py`.
"""

from functools import partial
from typing import Any, Literal

from codi_jax.codi import CoDiConfig, register
from codi_jax.data.tokenizer import make_tokenizer
from codi_jax.encoders.autokl import AutoKLConfig
from codi_jax.encoders.bert import BertConfig
from codi_jax.encoders.clap import CLAPAudioConfig
from codi_jax.encoders.clip import CLIPTextConfig, CLIPVisionConfig
from codi_jax.encoders.gpt2 import GPT2Config
from codi_jax.encoders.optimus import OptimusConfig
from codi_jax.media.mel import MelConfig
from codi_jax.modalities.audio import AudioConfig
from codi_jax.modalities.image import ImageConfig
from codi_jax.modalities.text import TextConfig
from codi_jax.modalities.video import VideoConfig
from codi_jax.nn.config import EnvironmentConfig, TimingConfig, UNetConfig
from codi_jax.presets.options import subset

WIDTH = 64  # D, the prompt space
LENGTH = 15  # tokens of a caption
TEXT_LATENT = 128
STEM = (32, 64, 128, 128)  # widths of the convolutions of the towers of image and video
MODALITIES = ("text", "image", "audio", "video")
Kind = Literal["vector", "spatial"]
Environment = Literal["pooled", "map"]


def text(tokens: Environment) -> TextConfig:
    """`config.model.modalities.text`: latents of 128 numbers."""
    words = make_tokenizer("digit_world")
    return TextConfig(
        tokenizers=("digit_world",) * 3,
        length=LENGTH,
        word_dropout=0.3,
        codec=OptimusConfig(
            encoder=BertConfig(words.size, width=64, layers=2, heads=4, feed_forward=128, positions=LENGTH),
            decoder=GPT2Config(words.size, width=64, layers=2, heads=4, feed_forward=128, positions=LENGTH + 1),
            latent=TEXT_LATENT, bos=words.bos, eos=words.eos, pad=words.pad,
        ),
        prompt=CLIPTextConfig(
            words.size, width=64, layers=1, heads=4, feed_forward=128, positions=LENGTH, projection=WIDTH
        ),
        denoiser=UNetConfig(
            kind="vector", latent_channels=TEXT_LATENT, channels=64, groups=8, context_width=WIDTH, multipliers=(1,),
            blocks=(2,), attention_levels=(True,), cross_modal_levels=(True,), heads=4,
        ),
        environment=environment_encoder("vector", TEXT_LATENT, tokens),
    )  # fmt: skip


def environment_encoder(
    kind: Kind, latent_channels: int, tokens: Environment, channels: int = 64, **options: Any
) -> EnvironmentConfig:
    """The environment encoder V of a latent; `tokens`: one is `pooled`, or a `map` of them."""
    return EnvironmentConfig(
        kind=kind, latent_channels=latent_channels, channels=channels, width=WIDTH, multipliers=(1, 2), blocks=(1, 1),
        groups=8, tokens=tokens, **options,
    )  # fmt: skip


def unet(
    width: int,
    attention_levels: tuple[bool, ...] = (False, True),
    cross_modal_levels: tuple[bool, ...] = (False, True),
    **options: Any,
) -> UNetConfig:
    """A U-Net on spatial latents with 8 channels."""
    return UNetConfig(
        kind="spatial", latent_channels=8, channels=width, groups=8, context_width=WIDTH, multipliers=(1, 2),
        blocks=(1, 1), attention_levels=attention_levels, cross_modal_levels=cross_modal_levels, heads=4, **options,
    )  # fmt: skip


def codec(in_channels: int, patch: int) -> AutoKLConfig:
    """The codec of pixels or of spectrograms: 4 x 4 latents with 8 channels."""
    return AutoKLConfig(
        in_channels=in_channels, patch=patch, channels=64, mult=(1, 2), blocks=1, z_channels=8, embed_dim=8, groups=8,
        mid_attention=False,
    )  # fmt: skip


def tower(stem: tuple[int, ...], temporal: bool = False) -> CLIPVisionConfig:
    """The prompt encoder of image or video."""
    return CLIPVisionConfig(
        image_size=32, patch=16, stem=stem, width=64, layers=1, heads=4, feed_forward=128, projection=WIDTH,
        temporal=temporal,
    )  # fmt: skip


def image(tokens: Environment) -> ImageConfig:
    """`config.model.modalities.image`: 32 x 32 pixels."""
    return ImageConfig(
        size=32,
        codec=codec(3, patch=4),
        prompt=tower(STEM),
        denoiser=unet(40),
        environment=environment_encoder("spatial", 8, tokens),
        reads_parts=True,
    )


def timing(channels: int, levels: tuple[int, ...] = (1,), **options: Any) -> TimingConfig:
    """Attention in time, at all levels of the U-Net; `levels` are the multipliers of its encoder."""
    return TimingConfig(
        encoder=EnvironmentConfig(
            kind="spatial", latent_channels=8, channels=channels, width=WIDTH, multipliers=levels,
            blocks=(2,) * len(levels), groups=8, tokens="time", **options,
        ),
        levels=(True, True),
        periods=(0.125, 4.0),
    )  # fmt: skip


def audio(tokens: Environment, timed: bool = False) -> AudioConfig:
    """`config.model.modalities.audio`: 8192 samples at 8 kHz, 64 x 64 mels."""
    return AudioConfig(
        mel=MelConfig(sample_rate=8000, n_fft=512, hop=128, mels=64, fmin=50.0, fmax=4000.0),
        frames=64,
        shift=-4.0,
        scale=0.4,
        codec=codec(1, patch=8),
        prompt=CLAPAudioConfig(
            mel_bins=64, spec_size=64, patch_size=8, patch_stride=(8, 8), embed_dim=48, depths=(1, 1),
            num_heads=(2, 4), window=4, projection=WIDTH,
        ),
        denoiser=unet(48),
        environment=environment_encoder("spatial", 8, tokens),
        timing=timing(64) if timed else None,
        reads_parts=True,
    )  # fmt: skip


def video(tokens: Environment, timed: bool = False) -> VideoConfig:
    """`config.model.modalities.video`: 8 frames."""
    temporal = {"temporal": True, "temporal_heads": 4}
    return VideoConfig(
        size=32,
        frames=8,
        rate=8.0,
        codec=codec(3, patch=4),
        prompt=tower(STEM, temporal=True),  # which starts from the tower of images
        # The direction and the bounce of a video show in single pixels of single frames. With attention and cross-modal
        # attention at the coarse level alone, the network learns neither from prompt or environment.
        denoiser=unet(40, attention_levels=(True, True), cross_modal_levels=(True, True), **temporal),
        environment=environment_encoder("spatial", 8, tokens, channels=32, **temporal),
        timing=timing(32, (1, 2), **temporal) if timed else None,
        components={"prompt": "clip_video", "denoiser": "video_unet"},
    )


@register("digit_world")
def model(
    *, modalities: str | tuple[str, ...] = MODALITIES, tokens: Environment = "pooled", timed: bool = False
) -> CoDiConfig:
    """The model.

    Args:
      modalities: a subset of MODALITIES, as names or joined by "+".
      tokens: what environment encoders return, one token (`pooled`) or one for every position (`map`).
      timed: audio and video have attention in time.

    Raises:
      ConfigError: an invalid option.
    """
    makers = {"text": text, "image": image, "audio": partial(audio, timed=timed), "video": partial(video, timed=timed)}
    return CoDiConfig(
        modalities={name: makers[name](tokens) for name in subset(modalities, MODALITIES)},
        width=WIDTH,
        prediction="x0",
        schedule="cosine",
        environment_tokens=tokens,
    )
