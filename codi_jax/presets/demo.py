"""CoDi on text and image in the smallest sizes that meet the floors, and its recipe: what `make demo` trains."""

from typing import Literal

from codi_jax.codi import CoDiConfig, register
from codi_jax.config import checked_fields, checked_options
from codi_jax.data.tokenizer import make_tokenizer
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.digit_world import WorldConfig
from codi_jax.digit_world.benchmark.config import EvaluateConfig
from codi_jax.encoders.autokl import AutoKLConfig
from codi_jax.encoders.bert import BertConfig
from codi_jax.encoders.clip import CLIPTextConfig, CLIPVisionConfig
from codi_jax.encoders.gpt2 import GPT2Config
from codi_jax.encoders.optimus import OptimusConfig
from codi_jax.modalities.image import ImageConfig
from codi_jax.modalities.text import TextConfig
from codi_jax.nn.environment import EnvironmentConfig
from codi_jax.nn.unet import UNetConfig
from codi_jax.presets.stages import Stages, adamw, shrink, stage
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.recipe import RunConfig

WIDTH = 64  # D, the prompt space
LENGTH = 12  # tokens of a caption
PAIR = ("text", "image")
FACTORS = ("digit", "colour")  # those that captions mention


def text() -> TextConfig:
    """`config.model.modalities.text`: latents of 32 numbers."""
    words = make_tokenizer("digit_colour")
    return TextConfig(
        tokenizers=("digit_colour",) * 3,
        length=LENGTH,
        word_dropout=0.3,
        codec=OptimusConfig(
            encoder=BertConfig(words.size, width=64, layers=2, heads=4, feed_forward=128, positions=LENGTH),
            decoder=GPT2Config(words.size, width=64, layers=2, heads=4, feed_forward=128, positions=LENGTH + 1),
            latent=32, bos=words.bos, eos=words.eos, pad=words.pad,
        ),
        prompt=CLIPTextConfig(
            words.size, width=64, layers=1, heads=4, feed_forward=128, positions=LENGTH, projection=WIDTH
        ),
        denoiser=UNetConfig(
            kind="vector", latent_channels=32, channels=64, groups=8, context_width=WIDTH, multipliers=(1,),
            blocks=(1,), attention_levels=(True,), cross_modal_levels=(True,), heads=4,
        ),
        environment=environment("vector", 32),
    )  # fmt: skip


def image() -> ImageConfig:
    """`config.model.modalities.image`: 32 x 32 pixels, 8 x 8 latents."""
    return ImageConfig(
        size=32,
        codec=AutoKLConfig(
            in_channels=3, patch=4, channels=64, mult=(1, 1), blocks=1, z_channels=8, embed_dim=8, groups=8,
            mid_attention=False,
        ),
        prompt=CLIPVisionConfig(
            image_size=32, patch=16, stem=(32, 64, 128, 128), width=64, layers=1, heads=4, feed_forward=128,
            projection=WIDTH,
        ),
        denoiser=UNetConfig(
            kind="spatial", latent_channels=8, channels=48, groups=8, context_width=WIDTH, multipliers=(1, 2),
            blocks=(1, 1), attention_levels=(False, True), cross_modal_levels=(False, True), heads=4,
        ),
        environment=environment("spatial", 8),
    )  # fmt: skip


def environment(kind: Literal["vector", "spatial"], latent_channels: int) -> EnvironmentConfig:
    """The environment encoder V of a latent."""
    return EnvironmentConfig(
        kind=kind, latent_channels=latent_channels, channels=64, width=WIDTH, multipliers=(1, 2), blocks=(1, 1),
        groups=8,
    )  # fmt: skip


@register("demo")
def model() -> CoDiConfig:
    """The model."""
    return CoDiConfig({"text": text(), "image": image()}, width=WIDTH, prediction="x0", schedule="cosine")


def stages() -> Stages:
    """`config.stages`."""
    joint_prompts = {"sources": PAIR, "drop": 0.8, "noise": 0.3}
    return {
        "codec": {
            "text": stage(
                "codec", ("text",), "captions", trainable=("text_codec/.*",), steps=600, batch_size=128,
                optimizer=adamw(2e-3, warmup=50), settings={"kl_weight": 0.005, "free_bits": 0.1},
            ),
            "image": stage(
                "codec", ("image",), "train", trainable=("vision_codec/.*",), steps=1200, batch_size=16,
                optimizer=adamw(4e-3, warmup=50), settings={"kl_weight": 1e-5},
            ),
        },
        "bridging": {"text+image": stage(
            "bridging", PAIR, "train", trainable=("clip_text/.*", "clip_vision/.*", "bridging/.*"), steps=1600,
            batch_size=64, optimizer=adamw(2e-3, warmup=50, weight_decay=1.0), settings={"max_scale": 7.0},
        )},
        "encode": {"text+image": stage(
            "encode", PAIR, "pairs", depends_on=("codec.text", "codec.image", "bridging.text+image"), batch_size=250,
        )},
        "ldm": {
            "text": stage(
                "ldm", PAIR, "encode.text+image", depends_on=("encode.text+image",), trainable=("text_unet/.*",),
                steps=2400, batch_size=64, optimizer=adamw(2e-3, warmup=50),
                settings={"prompts": {"sources": ("image",), "noise": 1.0, "drop": 0.15}},
            ),
            "image": stage(
                "ldm", ("image", "text"), "encode.text+image", depends_on=("encode.text+image",),
                trainable=("vision_unet/.*",), steps=1000, batch_size=64, optimizer=adamw(2e-3, warmup=50),
                settings={"prompts": {"sources": ("text",), "noise": 0.7, "drop": 0.15}},
            ),
        },
        # First V by the anchor alone: without the denoisers a step is cheap, and V needs many samples.
        "environment": {name: stage(
            "latent_alignment", PAIR, "encode.text+image", depends_on=(f"ldm.{name}",),
            trainable=(f"{name}_environment/.*",), steps=1000, batch_size=128, optimizer=adamw(2e-3, warmup=50),
            settings={"losses": (), "aligned": (name,), "prompts": joint_prompts},
        ) for name in PAIR},
        "joint": {"text+image": stage(
            "latent_alignment", PAIR, "encode.text+image", depends_on=("environment.text", "environment.image"),
            trainable=("text_environment/.*", "image_environment/.*", "text_cross/.*", "image_cross/.*"), steps=1300,
            batch_size=32, optimizer=adamw(2e-3, warmup=50),
            settings={"losses": PAIR, "aligned": PAIR, "prompts": joint_prompts},
        )},
    }  # fmt: skip


def sources() -> dict[str, dict]:
    """`config.sources`."""
    train = {"split": "train", "size": 100_000}
    test = {"split": "test", "size": 2_000, "seed": 2}
    out = {
        "train": {**train, "truncate": 0.0},
        "captions": {**train, "truncate": 0.5, "short_captions": True, "modalities": ("text",)},
        "pairs": {"split": "train", "size": 20_000, "truncate": 0.3},
        # For choosing settings: `codi-jax evaluate --split=val` (config.evaluate.validation, by default `val`)
        "val": {"split": "val", "size": 2_000, "seed": 3},
        "test": test,
        "test_seen": {**test, "combinations": "seen"},
        "test_held_out": {**test, "combinations": "held_out"},
    }
    return {
        name: {"name": "digit_world", **checked_fields(WorldConfig, **fields, mention=FACTORS)}
        for name, fields in out.items()
    }


@checked_options
def run(*, tiny: bool = False) -> RunConfig:
    """The config of the run; `tiny` reduces every stage to a few steps."""
    config = RunConfig(
        model=model(),
        sources=sources(),
        stages=stages(),
        generate=GenerateConfig(
            {"text": ClassifierFreeGuidance(2.0, 2.0), "image": ClassifierFreeGuidance(4.0, 7.0)},
            steps=12,
            delay={"image": 3},
        ),
        evaluate=checked_fields(
            EvaluateConfig, n=512, seen="test_seen", held_out="test_held_out", reference=1024, combinations=0,
            factors=FACTORS, floors={},
        ),
    )  # fmt: skip
    return shrink(config, {"n": 8, "reference": 32, "floors": None}) if tiny else config
