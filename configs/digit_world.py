"""CoDi on text, image, audio and video, for two CPU cores.

Reaches, at length=3 and after 2.2 hours of processes on one core each: the packaged model, whose numbers are in
codi_jax/digit_world/weights/card.md. At length=1, after 40 minutes on two cores, text, image and audio meet the default
floors, but videos do not follow the motion of their prompts yet (0.62 of the ceiling, n = 32).

Data: digit_world (coloured MNIST digits that move, spoken digits, captions), in pools of pairs: text-image, text-audio,
text-video, audio-video. The classes are those of the config at the paper's size; only sizes differ. Video has its own
U-Net and CLIP tower, since temporal layers alone do not learn motion in a few minutes; it shares the codec of image.

    codi-jax train --config=configs/four.py --workdir=out/four
    codi-jax train --config=configs/four.py:modalities=text+image --workdir=out/part      a subset
    codi-jax train --config=configs/four.py:length=3 --workdir=out/long       three times the steps
    codi-jax train --config=configs/four.py:loss=paper --reuse=out/four --workdir=out/paper     the paper's alignment
    codi-jax train --config=configs/four.py:tokens=map --reuse=out/four --workdir=out/map     one token per position
    codi-jax train --config=configs/four.py:pools=merged --reuse=out/four --workdir=out/merged     all pairs
    codi-jax train --config=configs/four.py:length=3,n=256,floors=package --workdir=out/package/model   the packaged one
    codi-jax train --config=configs/four.py:judges --workdir=out/judges     judges for evaluation
    codi-jax train --config=configs/four.py:tiny --workdir=out/tiny       the same recipe in seconds, for tests
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from codi_jax.config import ConfigError
from codi_jax.config_utils import adamw, parse_argument, stage
from codi_jax.data.tokenizer import make_tokenizer
from codi_jax.digit_world import CARRIES, FACTORS

WIDTH = 64  # D, the prompt space
LENGTH = 15  # tokens of a caption
TEXT_LATENT = 128
MODALITIES = ("text", "image", "audio", "video")
POOLS = ("text+image", "text+audio", "text+video", "audio+video")
STEPS = {  # training steps of every stage at length 1
    "codec.text": 900, "codec.image": 1000, "codec.audio": 800,
    "bridging.text+image": 900, "bridging.text+audio": 500, "bridging.text+video": 500,
    "ldm.text": 2200, "ldm.image": 1000, "ldm.audio": 550, "ldm.video": 2400,
    "environment.text": 600, "environment.image": 600, "environment.audio": 450, "environment.video": 400,
    "joint.text+image": 1300, "joint.text+audio": 450, "joint.audio+video": 500,
    "joint.image+audio": 250, "joint.image+video": 200, "joint.text+video": 200,
}  # fmt: skip
LEAST_LENGTH = {"codec.text": 3.0, "codec.image": 1.0, "codec.audio": 1.0}  # of codecs: what they lose, no stage learns
WARMUP = 50  # steps, but at most a tenth of those of the stage
SECONDS = {  # of every stage on one core, for `scheduling_weight`
    "codec.text": 35, "codec.image": 55, "codec.audio": 40,
    "bridging.text+image": 45, "bridging.text+audio": 35, "bridging.text+video": 50,
    "encode.text+image": 10, "encode.text+audio": 15, "encode.text+video": 20, "encode.audio+video": 20,
    "encode.merged": 40,
    "ldm.text": 95, "ldm.image": 85, "ldm.audio": 70, "ldm.video": 600,
    "environment.text": 15, "environment.image": 25, "environment.audio": 25, "environment.video": 55,
    "joint.text+image": 130, "joint.text+audio": 65, "joint.audio+video": 250,
    "joint.image+audio": 60, "joint.image+video": 120, "joint.text+video": 120,
}  # fmt: skip


# Floors of the packaged model, n = 256. Other factors of a direction than the digit have the floor 0.97.
DIRECTIONS = {  # prompt -> output -> floor of the digit
    "text": {"text": 0.98, "image": 0.98, "audio": 0.98, "video": 0.98},
    "image": {"text": 0.964, "image": 0.961, "audio": 0.964, "video": 0.964},
    "audio": {"text": 0.976, "image": 0.976, "audio": 0.98, "video": 0.961},
    "video": {"text": 0.964, "image": 0.953, "audio": 0.953, "video": 0.941},
}
JOINT = {  # outputs -> factor -> floor of the fraction of samples in which all outputs that carry it agree
    "text+image": {"digit": 0.98, "colour": 0.98},
    "text+audio": {"digit": 0.972, "motion": 0.97, "voice": 0.98, "moment": 0.97},
    "text+video": {"digit": 0.941, "colour": 0.46, "motion": 0.93, "moment": 0.93},
    "image+audio": {"digit": 0.957},
    "image+video": {"digit": 0.859, "colour": 0.79},
    "audio+video": {"digit": 0.836, "motion": 0.97, "moment": 0.97},
    "text+image+audio": {"digit": 0.968, "colour": 0.92, "motion": 0.93, "voice": 0.98, "moment": 0.93},
    "text+image+video": {"digit": 0.882, "colour": 0.22, "motion": 0.85, "moment": 0.85},
    "text+audio+video": {"digit": 0.898, "colour": 0.28, "motion": 0.90, "voice": 0.97, "moment": 0.90},
    "image+audio+video": {"digit": 0.738, "colour": 0.66, "motion": 0.96, "moment": 0.96},
    "text+image+audio+video": {"digit": 0.828, "colour": 0.20, "motion": 0.80, "voice": 0.94, "moment": 0.80},
}


def package_floors() -> dict:
    """`config.evaluate.floors` of the packaged model."""
    cells = {
        f"{a}->{b}": {f: digit if f == "digit" else 0.97 for f in CARRIES[a] if f in CARRIES[b]}
        for a, outputs in DIRECTIONS.items() for b, digit in outputs.items()
    }  # fmt: skip
    return {"hard": ("video",), "cells": cells | JOINT}


def text(tokens: str) -> dict:
    """`config.model.modalities.text`."""
    vocabulary = make_tokenizer("digit_world")
    sizes = {"vocab": vocabulary.size, "width": 64, "heads": 4, "feed_forward": 128}
    return {
        "tokenizers": ("digit_world",) * 3,
        "length": LENGTH,
        "word_dropout": 0.3,
        "codec": {
            "encoder": {**sizes, "layers": 2, "positions": LENGTH},
            "decoder": {**sizes, "layers": 2, "positions": LENGTH + 1},
            "latent": TEXT_LATENT, "bos": vocabulary.bos, "eos": vocabulary.eos, "pad": vocabulary.pad,
        },
        "prompt": {**sizes, "layers": 1, "positions": LENGTH, "projection": WIDTH},
        "denoiser": {
            "kind": "vector", "latent_channels": TEXT_LATENT, "channels": 64, "groups": 8, "context_width": WIDTH,
            "multipliers": (1,), "blocks": (2,), "attention_levels": (True,), "cross_modal_levels": (True,), "heads": 4,
        },
        "environment": environment_encoder("vector", TEXT_LATENT, tokens),
    }  # fmt: skip


def environment_encoder(kind: str, latent_channels: int, tokens: str, **options) -> dict:
    """The environment encoder V of a latent; `tokens`: one is `pooled`, or a `map` of them."""
    return {
        "kind": kind, "latent_channels": latent_channels, "channels": 64, "width": WIDTH, "multipliers": (1, 2),
        "blocks": (1, 1), "groups": 8, "tokens": tokens, **options,
    }  # fmt: skip


def unet(channels: int, width: int, **options) -> dict:
    """A U-Net on spatial latents with `channels` channels."""
    return {
        "kind": "spatial", "latent_channels": channels, "channels": width, "groups": 8, "context_width": WIDTH,
        "multipliers": (1, 2), "blocks": (1, 1), "attention_levels": (False, True), "cross_modal_levels": (False, True),
        "heads": 4, **options,
    }  # fmt: skip


def vision() -> dict:
    """The fields that image and video share: 32 x 32 pixels, 4 x 4 latents."""
    return {
        "size": 32,
        "codec": {
            "in_channels": 3, "patch": 4, "channels": 64, "mult": (1, 2), "blocks": 1, "z_channels": 8, "embed_dim": 8,
            "groups": 8, "mid_attention": False,
        },
        "prompt": {
            "image_size": 32, "patch": 16, "stem": (32, 64, 128, 128), "width": 64, "layers": 1, "heads": 4,
            "feed_forward": 128, "projection": WIDTH,
        },
    }  # fmt: skip


def image(tokens: str) -> dict:
    """`config.model.modalities.image`."""
    return {**vision(), "denoiser": unet(8, 40), "environment": environment_encoder("spatial", 8, tokens)}


def audio(tokens: str) -> dict:
    """`config.model.modalities.audio`: 8192 samples at 8 kHz, 64 x 64 mels, 4 x 4 latents."""
    return {
        "mel": {"sample_rate": 8000, "n_fft": 512, "hop": 128, "mels": 64, "fmin": 50.0, "fmax": 4000.0},
        "frames": 64, "shift": -4.0, "scale": 0.4,
        "codec": {
            "in_channels": 1, "patch": 8, "channels": 64, "mult": (1, 2), "blocks": 1, "z_channels": 8, "embed_dim": 8,
            "groups": 8, "mid_attention": False,
        },
        "prompt": {
            "mel_bins": 64, "spec_size": 64, "patch_size": 8, "patch_stride": (8, 8), "embed_dim": 48, "depths": (1, 1),
            "num_heads": (2, 4), "window": 4, "projection": WIDTH,
        },
        "denoiser": unet(8, 48),
        "environment": environment_encoder("spatial", 8, tokens),
    }  # fmt: skip


def video(tokens: str) -> dict:
    """`config.model.modalities.video`: 8 frames."""
    temporal = {"temporal": True, "temporal_heads": 4}
    parts = vision()
    return {
        **parts, "frames": 8, "rate": 8.0,
        "prompt": {**parts["prompt"], "stem": (16, 32, 64, 64), "temporal": True},
        # The direction and the bounce of a video show in single pixels of single frames. With attention and cross-modal
        # attention at the coarse level alone, the network learns neither from prompt or environment.
        "denoiser": unet(8, 40, attention_levels=(True, True), cross_modal_levels=(True, True), **temporal),
        "environment": environment_encoder("spatial", 8, tokens, **temporal, channels=32),
        "components": {"prompt": "clip_video", "denoiser": "video_unet"},
    }  # fmt: skip


def world(modalities: tuple[str, ...], split: str = "train", size: int = 20_000, **options) -> dict:
    """A source of digit_world."""
    return {"name": "digit_world", "split": split, "size": size, "modalities": modalities, **options}


def sources(modalities: tuple[str, ...], merged: bool, length: float) -> dict:
    """`config.sources`. Pools have different seeds, so no sample is in two of them.

    Encoded sources grow with `length`, so that a short run does not encode samples that it hardly uses.
    """
    share = min(1.0, length)
    out = {
        "captions": world(("text",), size=100_000, seed=10, truncate=0.5, short_captions=True),
        # Codecs train on single frames, since the eight frames of a video are too similar to be worth the time.
        "frames": world(("image",), size=100_000, seed=11, frames="video" in modalities),
        # For tuning hyperparameters: --config.evaluate.seen=val
        "val": world(modalities, "val", 2_000, seed=3, truncate=0.0),
        "test": world(modalities, "test", 2_000, seed=2, truncate=0.0),
        "test_seen": world(modalities, "test", 2_000, seed=2, truncate=0.0, combinations="seen"),
        "test_held_out": world(modalities, "test", 2_000, seed=2, truncate=0.0, combinations="held_out"),
    }
    for seed, pool in enumerate(POOLS):
        pair = tuple(pool.split("+"))
        if set(pair) <= set(modalities):
            size = round(share * (5_000 if "video" in pair else 10_000))
            out[pool] = world(pair, size=size, seed=20 + seed, truncate=0.3)
            # Truncated prompts hurt the towers; a second wording teaches them factors that images do not show.
            out[f"{pool} whole"] = world(pair, size=100_000, seed=20 + seed, truncate=0.0, reword=True)
    if merged:
        out["merged"] = world(modalities, size=10_000, seed=30, truncate=0.3, merged=True)
    return out


@dataclasses.dataclass(frozen=True)
class Variant:
    """What the argument of the config changes in the recipe.

    Attributes:
      modalities: of the model.
      length: every stage has `length` times the steps of `STEPS`; a codec has at least `LEAST_LENGTH` times those.
      paper: whether to train V and X with the paper's loss, contrastive between V_A and V_B with one t for both. It has
        no stages for V alone; their steps are added to those of V and X together.
      merged: whether samples hold all modalities from the denoisers on; then each modality prompts every denoiser, and
        every pair of outputs is trained.
    """

    modalities: tuple[str, ...]
    length: float = 1.0
    paper: bool = False
    merged: bool = False

    def stage(
        self, name: str, objective: str, modalities: tuple[str, ...], source: str | tuple[str, ...],
        learning_rate: float = 2e-3, weight_decay: float = 0.01, **options,
    ) -> dict:  # fmt: skip
        """Stage `name`, GROUP.NAME, with its steps of `STEPS` and its seconds of `SECONDS`."""
        length = max(self.length, LEAST_LENGTH.get(name, 0.0))
        more = 1.5 if self.paper and name.startswith("joint.") else 1.0
        steps = round(STEPS.get(name, 0) * length * more)
        return stage(
            objective, modalities, source, steps=steps, scheduling_weight=SECONDS[name] * length * more,
            optimizer=adamw(learning_rate, min(WARMUP, steps // 10), weight_decay), **options,
        )  # fmt: skip

    def encoded(self, *pools: str) -> tuple[str, ...]:
        """The encode stages of some pools."""
        return ("encode.merged",) if self.merged else tuple(f"encode.{pool}" for pool in pools)


TOWERS = {"text": "clip_text", "image": "clip_vision", "audio": "clap_audio", "video": "clip_video"}
UNETS = {"text": "text_unet", "image": "vision_unet", "audio": "audio_unet", "video": "video_unet"}
CODECS = {"text": "text_codec", "image": "vision_codec", "audio": "audio_codec"}


def codec(variant: Variant, name: str) -> dict:
    """Stage codec.NAME."""
    source, batch_size = {"text": ("captions", 128), "image": ("frames", 16), "audio": ("text+audio", 16)}[name]
    return variant.stage(
        f"codec.{name}", "codec", (name,), source, trainable=(f"{CODECS[name]}/.*",), batch_size=batch_size,
        learning_rate=2e-3 if name == "text" else 4e-3,
        settings={"kl_weight": 0.005, "free_bits": 0.1} if name == "text" else {"kl_weight": 1e-5},
    )  # fmt: skip


def bridging(variant: Variant, name: str) -> dict:
    """Stage bridging.text+NAME; the one with image trains the tower of text, too."""
    first = name == "image"
    towers = ("text", "image") if first else (name,)
    return variant.stage(
        f"bridging.text+{name}", "bridging", ("text", name), f"text+{name} whole", weight_decay=1.0, batch_size=64,
        trainable=(*(f"{TOWERS[tower]}/.*" for tower in towers), "bridging/.*"),
        depends_on=() if first else ("bridging.text+image",),
        settings={"max_scale": 7.0, **({"views": ("text",)} if first else {})},
    )  # fmt: skip


def encode(variant: Variant, pool: str, modalities: tuple[str, ...], of: tuple[str, ...]) -> dict:
    """Stage encode.POOL; it depends on the codecs and towers of the modalities `of`."""
    codecs = [f"codec.{'image' if name == 'video' else name}" for name in of]
    towers = [f"bridging.text+{'image' if name == 'text' else name}" for name in of]
    depends_on = tuple(dict.fromkeys([*codecs, *towers]))
    return variant.stage(
        f"encode.{pool}", "encode", modalities, pool, learning_rate=1e-3, depends_on=depends_on, batch_size=250
    )


def ldm(variant: Variant, name: str) -> dict:
    """Stage ldm.NAME. Text prompts the others; all others prompt text."""
    others = tuple(other for other in variant.modalities if other != name)
    prompts = others if variant.merged or name == "text" else ("text",)
    pools = variant.encoded(*(f"text+{other}" for other in (others if name == "text" else (name,))))
    sources = variant.modalities if variant.merged or name == "text" else ("text",)
    settings: dict[str, Any] = {"prompts": {"sources": sources, "drop": 0.15, "noise": 1.0 if name == "text" else 0.7}}
    if name == "video":
        # Appearance is learnt at low noise. Motion is learnt at noise levels that hide eight frames, so t is shifted.
        settings["shift"] = 8.0
    start: dict[str, Any] = {"init_from": {"video_unet": "vision_unet"}} if name == "video" else {}
    return variant.stage(
        f"ldm.{name}", "ldm", (name, *prompts), pools if name == "text" and not variant.merged else pools[0],
        trainable=(f"{UNETS[name]}/.*",), batch_size=16 if name == "video" else 64, settings=settings,
        depends_on=(*pools, *(("ldm.image",) if name == "video" else ())),
        **start,
    )  # fmt: skip


def alignment(variant: Variant, pair: tuple[str, str], losses: tuple[str, ...], aligned: tuple[str, ...]) -> dict:
    """Settings of latent_alignment; most prompts are dropped, since the environment matters without a prompt.

    The target of V is the modality's own prompt: that of its partner may lack factors, which V would then not encode.
    """
    settings = {"losses": losses, "aligned": aligned, "prompts": {"sources": pair, "drop": 0.8, "noise": 0.3}}
    paper = {"align": "contrastive", "timesteps": "shared"} if variant.paper else {}
    return {**settings, "target": "own", **paper}


def environment(variant: Variant, name: str) -> dict:
    """Stage environment.NAME: V by the anchor alone. A step without denoisers is cheap, and V needs many samples."""
    pair = ("text", "image" if name == "text" else name)
    (encoded,) = variant.encoded("+".join(pair))
    return variant.stage(
        f"environment.{name}", "latent_alignment", pair, encoded, trainable=(f"{name}_environment/.*",),
        depends_on=((encoded,) if variant.merged else ()) + (f"ldm.{name}",),
        batch_size=32 if name == "video" else 128, settings=alignment(variant, pair, (), (name,)),
    )  # fmt: skip


def joint(variant: Variant, name: str, aligned: tuple[str, ...], after: tuple[str, ...]) -> dict:
    """Stage joint.NAME: V and X of the modalities `aligned`, after the stages `after`."""
    first, second = name.split("+")
    pair = (first, second)
    (encoded,) = variant.encoded(name)
    return variant.stage(
        f"joint.{name}", "latent_alignment", pair, encoded,
        depends_on=((encoded,) if variant.merged else ()) + after,
        trainable=tuple(f"{m}_{role}/.*" for m in aligned for role in ("environment", "cross")),
        batch_size=16 if "video" in pair else 32, settings=alignment(variant, pair, pair, aligned),
    )  # fmt: skip


def joint_stages(variant: Variant) -> dict:
    """The stages joint.*: each pair trains V and X of what no stage before has trained."""
    last = "joint.image+audio" if variant.merged else "joint.text+audio"
    encoded = () if variant.merged else variant.encoded("audio+video")
    before = {  # pair -> the modalities whose V and X it trains; those whose V is trained before; other stages before
        "text+image": (("text", "image"), ("text", "image"), ()),
        "text+audio": (("audio",), ("audio",), ("joint.text+image",)),
        "audio+video": (("video",), ("video",), (*encoded, last)),
    }
    if variant.merged:
        before["image+audio"] = (("audio",), (), ("joint.text+audio",))
        before["image+video"] = (("video",), (), ("joint.audio+video",))
        before["text+video"] = (("video",), (), ("joint.image+video",))
    stage_of_v = "ldm" if variant.paper else "environment"
    return {
        name: joint(variant, name, aligned, (*(f"{stage_of_v}.{m}" for m in own), *after))
        for name, (aligned, own, after) in before.items()
    }


def stages(variant: Variant) -> dict:
    """`config.stages`, GROUP -> NAME -> stage."""
    pairs = {pool: tuple(pool.split("+")) for pool in POOLS}
    everything = {
        "codec": {name: codec(variant, name) for name in CODECS},
        "bridging": {f"text+{name}": bridging(variant, name) for name in MODALITIES[1:]},
        "encode": {pool: encode(variant, pool, pair, pair) for pool, pair in pairs.items()},
        "ldm": {name: ldm(variant, name) for name in MODALITIES},
        "environment": {} if variant.paper else {name: environment(variant, name) for name in MODALITIES},
        "joint": joint_stages(variant),
    }
    if variant.merged:
        everything["encode"] = {"merged": encode(variant, "merged", MODALITIES, MODALITIES)}
    return {
        group: {name: s for name, s in named.items() if set(s["modalities"]) <= set(variant.modalities)}
        for group, named in everything.items()
    }


def judge_stages(modalities: tuple[str, ...]) -> dict:
    """`config.stages` of judges and similarity towers, trained on glyphs and voices that no generator sees."""
    judges = {
        name: stage(
            "judge", (name,), "judge", trainable=(f"{name}_judge/.*",), batch_size=128, steps=1500,
            optimizer=adamw(2e-3, warmup=WARMUP, weight_decay=0.05),
            settings={
                "factors": {factor: len(FACTORS[factor]) for factor in CARRIES[name]},
                "survive_blur": ("colour",) if "colour" in CARRIES[name] else (),
            },
        ) for name in modalities if name != "text"
    }  # fmt: skip
    similarity = {
        "all": stage(
            "similarity", modalities, "judge", trainable=tuple(f"{name}_similarity/.*" for name in modalities),
            batch_size=32, optimizer=adamw(2e-3, warmup=WARMUP, weight_decay=0.5), num_stats_samples=0, steps=800,
            settings={"views": ("text",)},
        )
    }  # fmt: skip
    return {"judge": judges, "similarity": similarity}


GUIDANCE = {
    "text": {"prompt": 2.0, "environment": 3.0},
    "image": {"prompt": 4.0, "environment": 8.0, "low": 0.3},
    "audio": {"prompt": 3.0, "environment": 8.0, "low": 0.3},
    "video": {"prompt": 4.0, "environment": 8.0, "low": 0.3},
}
DELAY = {"image": 5, "audio": 5, "video": 5}  # steps by which an output starts after the first ones
CHOICES = {  # arguments with named values; the first is the default
    "loss": ("ours", "paper"), "tokens": ("pooled", "map"), "pools": ("paired", "merged"),
    "floors": ("demo", "package"),
}  # fmt: skip


def parse(argument: str) -> SimpleNamespace:
    """The options of `get_config`; `modalities` as a tuple in the order of MODALITIES.

    Raises:
      ConfigError: an unknown option or value.
    """
    defaults = {name: values[0] for name, values in CHOICES.items()}
    options = parse_argument(
        argument, tiny=False, judges=False, length=1.0, modalities="+".join(MODALITIES), n=32, **defaults
    )
    for name, values in CHOICES.items():
        if getattr(options, name) not in values:
            raise ConfigError(f"config argument {name}: expected {' or '.join(values)}, got {getattr(options, name)}")
    requested = options.modalities.split("+")
    if unknown := [m for m in requested if m not in MODALITIES]:
        raise ConfigError(f"config argument modalities: no {', '.join(unknown)}; there are {', '.join(MODALITIES)}")
    options.modalities = tuple(m for m in MODALITIES if m in requested)
    if options.pools == "merged" and options.modalities != MODALITIES:
        raise ConfigError("config argument pools=merged: needs all modalities")
    return options


def evaluation(options: SimpleNamespace) -> dict:
    """`config.evaluate`."""
    packaged = options.floors == "package"
    out = {
        "n": options.n, "seen": "test_seen", "held_out": "test_held_out", "reference": 512,
        "combinations": max(2, options.n // 16),
        "mixes": tuple(f"text|{name}->{name}" for name in options.modalities if name != "text"),
        # The default floors of digit_world/benchmark/floors.py; joint generation with video is the hardest.
        "floors": package_floors() if packaged else {"hard": ("video",)},
    }  # fmt: skip
    if packaged:  # only values with floors are measured; `make claims` measures the rest
        out |= {"combinations": 0, "mixes": ()}
    if any(getattr(options, name) != values[0] for name, values in CHOICES.items() if name != "floors"):
        # Variants are compared by directions and joint generation; the other measurements take most of the time.
        out |= {"combinations": 0, "mixes": (), "pretrained": 0, "floors": None}
    return out


def shrink(config: dict) -> dict:
    """The config with a few steps per stage, for tests."""
    few = {"batch_size": 8, "num_stats_samples": 16, "checkpoint_every": 2, "log_every": 1}
    for group in config["stages"].values():
        for name, s in group.items():
            optimizer = {**s["optimizer"], "warmup": 1}
            group[name] = {**s, **few, "steps": 4 if s["steps"] else 0, "optimizer": optimizer}
    for source in config["sources"].values():
        source["size"] = 64
    config["generate"]["steps"] = 2
    config["evaluate"] |= {"n": 12, "reference": 32, "combinations": 1, "floors": None}
    return config


def get_config(argument: str = "") -> ConfigDict:
    """The config.

    Its argument: `modalities=text+image` (or +audio) for a subset; `tiny` for a few steps per stage; `length=3` for
    three times the steps; `judges` to train the judges and similarity towers of the evaluation instead of the model;
    `n` of the evaluation. `loss=paper`, `tokens=map` and `pools=merged` are for comparison and change the last stages.
    """
    options = parse(argument)
    modalities, merged, paper = options.modalities, options.pools == "merged", options.loss == "paper"
    makers = {"text": text, "image": image, "audio": audio, "video": video}
    model = {name: makers[name](options.tokens) for name in modalities}
    recipe = stages(Variant(modalities, options.length, paper, merged))
    data = sources(modalities, merged, options.length)
    if options.judges:
        recipe = judge_stages(modalities)
        data["judge"] = world(modalities, "judge", 40_000, seed=1)
    config = {
        "seed": 0,
        "model": {
            "modalities": model, "width": WIDTH, "prediction": "x0", "schedule": "cosine",
            "environment_tokens": options.tokens,
        },
        "sources": data,
        "stages": recipe,
        "generate": {
            "steps": 10,
            # The paper's loss shares one t in training, so no output may be delayed in sampling.
            "delay": {} if paper else {name: steps for name, steps in DELAY.items() if name in modalities},
            "guidance": {name: GUIDANCE[name] for name in modalities},
        },
        "evaluate": evaluation(options),
    }  # fmt: skip
    return ConfigDict(shrink(config) if options.tiny else config, convert_dict=True)
