"""CoDi on text, image, audio and video, small enough for two CPU cores: every stage in minutes.

Data: digit_world (coloured MNIST digits that move, spoken digits, captions), in pools of pairs: text-image, text-audio,
text-video, audio-video. The classes are those of the paper's size; only numbers differ. Video has a U-Net and a CLIP
tower of its own, since a few minutes do not teach a network of still pictures to see them move; codec is shared.

    codi-jax train --config=configs/four.py --workdir=out/four
    codi-jax train --config=configs/four.py:modalities=text+image --workdir=out/part      a part of it
    codi-jax train --config=configs/four.py:length=3 --workdir=out/long       three times the steps
    codi-jax train --config=configs/four.py:loss=paper --reuse=out/four --workdir=out/paper     the paper's alignment
    codi-jax train --config=configs/four.py:tokens=map --reuse=out/four --workdir=out/map       a token a position
    codi-jax train --config=configs/four.py:pools=merged --reuse=out/four --workdir=out/merged     pairs of everything
    codi-jax train --config=configs/four.py:length=3,n=256,floors=package --workdir=out/package/model    packaged
    codi-jax train --config=configs/four.py:judges --workdir=out/judges     what evaluation reads with
    codi-jax train --config=configs/four.py:tiny --workdir=out/tiny       the same recipe in seconds, for tests
"""

from ml_collections import ConfigDict

from codi_jax.config import ConfigError
from codi_jax.config_utils import adamw, parse_argument, stage
from codi_jax.data.digit_world import CARRIES, FACTORS
from codi_jax.data.tokenizer import make_tokenizer

WIDTH = 64  # D, the prompt space
LENGTH = 15  # tokens of a caption
TEXT_LATENT = 128
MODALITIES = ("text", "image", "audio", "video")
POOLS = ("text+image", "text+audio", "text+video", "audio+video")
STEPS = {  # of every stage that trains, at length 1
    "codec.text": 900, "codec.image": 1000, "codec.audio": 800,
    "bridging.text+image": 900, "bridging.text+audio": 500, "bridging.text+video": 500,
    "ldm.text": 2200, "ldm.image": 1000, "ldm.audio": 550, "ldm.video": 2400,
    "environment.text": 600, "environment.image": 600, "environment.audio": 450, "environment.video": 400,
    "joint.text+image": 1300, "joint.text+audio": 450, "joint.audio+video": 500,
    "joint.image+audio": 250, "joint.image+video": 200, "joint.text+video": 200,
}  # fmt: skip
WARMUP = 50  # steps, at most a tenth of a stage's
SECONDS = {  # of every stage on one core: they decide what two cores take first
    "codec.text": 35, "codec.image": 55, "codec.audio": 40,
    "bridging.text+image": 45, "bridging.text+audio": 35, "bridging.text+video": 50,
    "encode.text+image": 10, "encode.text+audio": 15, "encode.text+video": 20, "encode.audio+video": 20,
    "encode.merged": 40,
    "ldm.text": 95, "ldm.image": 85, "ldm.audio": 70, "ldm.video": 600,
    "environment.text": 15, "environment.image": 25, "environment.audio": 25, "environment.video": 55,
    "joint.text+image": 130, "joint.text+audio": 65, "joint.audio+video": 250,
    "joint.image+audio": 60, "joint.image+video": 120, "joint.text+video": 120,
}  # fmt: skip


# Of the packaged model, n = 256. What a direction carries beside the digit: 0.97.
DIRECTIONS = {  # prompt -> output -> the digit
    "text": {"text": 0.98, "image": 0.98, "audio": 0.98, "video": 0.98},
    "image": {"text": 0.964, "image": 0.961, "audio": 0.964, "video": 0.964},
    "audio": {"text": 0.976, "image": 0.976, "audio": 0.98, "video": 0.961},
    "video": {"text": 0.964, "image": 0.953, "audio": 0.953, "video": 0.941},
}
TOGETHER = {  # outputs -> factor -> the share of samples in which all that carry it show the same
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
    return {"hard": ("video",), "cells": cells | TOGETHER}


def text() -> dict:
    """`config.model.modalities.text`."""
    tokens = make_tokenizer("digit_world")
    sizes = {"vocab": tokens.size, "width": 64, "heads": 4, "feed_forward": 128}
    return {
        "tokenizers": ("digit_world",) * 3,
        "length": LENGTH,
        "word_dropout": 0.3,
        "codec": {
            "encoder": {**sizes, "layers": 2, "positions": LENGTH},
            "decoder": {**sizes, "layers": 2, "positions": LENGTH + 1},
            "latent": TEXT_LATENT, "bos": tokens.bos, "eos": tokens.eos, "pad": tokens.pad,
        },
        "prompt": {**sizes, "layers": 1, "positions": LENGTH, "projection": WIDTH},
        "denoiser": {
            "kind": "vector", "latent_channels": TEXT_LATENT, "channels": 64, "groups": 8, "context_width": WIDTH,
            "multipliers": (1,), "blocks": (2,), "attention_levels": (True,), "cross_modal_levels": (True,), "heads": 4,
        },
        "environment": environment("vector", TEXT_LATENT),
    }  # fmt: skip


def environment(kind: str, channels: int, **options) -> dict:
    """V of a latent of so many channels."""
    return {
        "kind": kind, "latent_channels": channels, "channels": 64, "width": WIDTH, "multipliers": (1, 2),
        "blocks": (1, 1), "groups": 8, **options,
    }  # fmt: skip


def unet(channels: int, width: int, **options) -> dict:
    """A U-Net on maps of so many channels."""
    return {
        "kind": "spatial", "latent_channels": channels, "channels": width, "groups": 8, "context_width": WIDTH,
        "multipliers": (1, 2), "blocks": (1, 1), "attention_levels": (False, True), "cross_modal_levels": (False, True),
        "heads": 4, **options,
    }  # fmt: skip


def vision() -> dict:
    """What pictures and clips have in common: 32 x 32 pixels to 4 x 4 latents."""
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


def image() -> dict:
    """`config.model.modalities.image`."""
    return {**vision(), "denoiser": unet(8, 40), "environment": environment("spatial", 8)}


def audio() -> dict:
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
        "environment": environment("spatial", 8),
    }  # fmt: skip


def video() -> dict:
    """`config.model.modalities.video`: 8 frames."""
    moving = {"temporal": True, "temporal_heads": 4}
    parts = vision()
    return {
        **parts, "frames": 8, "rate": 8.0,
        "prompt": {**parts["prompt"], "stem": (16, 32, 64, 64), "temporal": True},
        # Where a clip moves to and when it bounces is a matter of single pixels in single frames. Told of them at the
        # coarse level alone, by prompt or environment, the network learns neither.
        "denoiser": unet(8, 40, attention_levels=(True, True), cross_modal_levels=(True, True), **moving),
        "environment": environment("spatial", 8, **moving) | {"channels": 32},
        "components": {"prompt": "clip_video", "denoiser": "video_unet"},
    }  # fmt: skip


def world(modalities: tuple[str, ...], split: str = "train", size: int = 20_000, **options) -> dict:
    """A source of digit_world."""
    return {"name": "digit_world", "split": split, "size": size, "modalities": modalities, **options}


def sources(modalities: tuple[str, ...], merged: bool, length: float) -> dict:
    """`config.sources`. Every pool is a world of its own: no sample is in two of them.

    What is encoded once is as much as `length` asks for: a short run does not wait for samples that it hardly sees.
    """
    share = min(1.0, length)
    out = {
        "captions": world(("text",), size=100_000, seed=10, truncate=0.5, short_captions=True),
        # Codecs are trained on single frames: the eight of a clip are too much alike to be worth their time.
        "frames": world(("image",), size=100_000, seed=11, frames="video" in modalities),
        # For choosing settings: --config.evaluate.seen=val
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
            # Truncated prompts hurt the towers; a second wording teaches them what pictures do not show.
            out[f"{pool} whole"] = world(pair, size=100_000, seed=20 + seed, truncate=0.0, reword=True)
    if merged:
        out["merged"] = world(modalities, size=10_000, seed=30, truncate=0.3, merged=True)
    return out


def alignment(pair: tuple[str, str], losses: tuple[str, ...], aligned: tuple[str, ...]) -> dict:
    """Settings of latent_alignment; open prompts are where the environment matters.

    V's target is the modality's own prompt: its partner's may say less, and what V never learns no output can follow.
    """
    prompts = {"sources": pair, "drop": 0.8, "noise": 0.3}
    return {"losses": losses, "aligned": aligned, "prompts": prompts, "target": "own"}


def stages(modalities: tuple[str, ...], length: float, paper: bool, merged: bool) -> dict:
    """`config.stages`, GROUP -> NAME -> stage; every stage has `length` times the steps of `STEPS`,
    but for codecs, which have at least these.

    `paper`: V and X are trained by the paper's loss, contrastive between V_A and V_B and one t for both.
    `merged`: from the denoisers on, every sample holds all modalities; each of them prompts every denoiser, and every
    pair of outputs is trained.
    """
    codecs = {
        "text": stage(
            "codec", ("text",), "captions", train=("text_codec/.*",), batch_size=128,
            optimizer=adamw(2e-3), settings={"kl_weight": 0.005, "free_bits": 0.1},
        ),
        "image": stage(
            "codec", ("image",), "frames", train=("vision_codec/.*",), batch_size=16,
            optimizer=adamw(4e-3), settings={"kl_weight": 1e-5},
        ),
        "audio": stage(
            "codec", ("audio",), "text+audio", train=("audio_codec/.*",), batch_size=16,
            optimizer=adamw(4e-3), settings={"kl_weight": 1e-5},
        ),
    }  # fmt: skip
    towers = {"image": "clip_vision", "audio": "clap_audio", "video": "clip_video"}
    bridging = {
        f"text+{name}": stage(
            "bridging", ("text", name), f"text+{name} whole", train=(f"{towers[name]}/.*", "bridging/.*"),
            needs=("bridging.text+image",), batch_size=64, optimizer=adamw(2e-3, weight_decay=1.0),
            settings={"max_scale": 7.0},
        ) for name in ("image", "audio", "video")
    }  # fmt: skip
    bridging["text+image"].update(train=("clip_text/.*", "clip_vision/.*", "bridging/.*"), needs=())
    bridging["text+image"]["settings"]["views"] = ("text",)
    codec_of = {"text": "codec.text", "image": "codec.image", "audio": "codec.audio", "video": "codec.image"}
    tower_of = {name: f"bridging.text+{'image' if name == 'text' else name}" for name in MODALITIES}
    encode = {
        pool: stage(
            "encode", pair, pool, needs=tuple(dict.fromkeys([codec_of[m] for m in pair] + [tower_of[m] for m in pair])),
            batch_size=250,
        ) for pool, pair in ((p, tuple(p.split("+"))) for p in POOLS)
    }  # fmt: skip
    partners = tuple(m for m in modalities if m != "text")
    unets = {"text": "text_unet", "image": "vision_unet", "audio": "audio_unet", "video": "video_unet"}
    ldm = {
        name: stage(
            "ldm", (name, "text"), f"encode.text+{name}", needs=(f"encode.text+{name}",), train=(f"{unets[name]}/.*",),
            batch_size=64, optimizer=adamw(2e-3),
            settings={"prompts": {"sources": ("text",), "drop": 0.15, "noise": 0.7}},
        ) for name in ("image", "audio", "video")
    }  # fmt: skip
    # Frames are pictures first; what moves, and where to, shows at noise that hides eight frames of it.
    ldm["video"]["settings"]["shift"] = 8.0
    ldm["video"].update(
        batch_size=16,
        start={"video_unet": "vision_unet"},
        needs=("encode.text+video", "ldm.image"),
    )
    pools = tuple(f"encode.text+{name}" for name in partners)
    ldm["text"] = stage(
        "ldm", ("text", *partners), pools, needs=pools, train=("text_unet/.*",),
        batch_size=64, optimizer=adamw(2e-3),
        settings={"prompts": {"sources": ("text", *partners), "drop": 0.15, "noise": 1.0}},
    )  # fmt: skip
    # V by the anchor alone first: without the denoisers a step is cheap, and V needs many samples.
    environment = {
        name: stage(
            "latent_alignment", (pair := ("text", "image" if name == "text" else name)), f"encode.{'+'.join(pair)}",
            needs=(f"ldm.{name}",), train=(f"{name}_environment/.*",), batch_size=32 if name == "video" else 128,
            optimizer=adamw(2e-3), settings=alignment(pair, (), (name,)),
        ) for name in MODALITIES
    }  # fmt: skip
    trained = {  # pair -> the modalities whose V and X it trains, what it needs
        "text+image": (("text", "image"), ("environment.text", "environment.image")),
        "text+audio": (("audio",), ("environment.audio", "joint.text+image")),
        "audio+video": (("video",), ("environment.video", "encode.audio+video", "joint.text+audio")),
    }
    joint = {
        pool: stage(
            "latent_alignment", (pair := tuple(pool.split("+"))), f"encode.{pool}", needs=needs,
            train=tuple(f"{m}_{role}/.*" for m in own for role in ("environment", "cross")),
            batch_size=32, optimizer=adamw(2e-3), settings=alignment(pair, pair, own),
        ) for pool, (own, needs) in trained.items()
    }  # fmt: skip
    joint["audio+video"].update(batch_size=16)
    if paper:  # no anchor, so nothing to train V by alone; its steps go to V and X together
        environment = {}
        for s in joint.values():
            own = [n.removeprefix("environment.") for n in s["needs"] if n.startswith("environment.")]
            s["needs"] = (*(f"ldm.{name}" for name in own), *(n for n in s["needs"] if "environment" not in n))
            s["settings"].update(align="contrastive", timesteps="shared")
    if merged:
        needs = dict.fromkeys(need for s in encode.values() for need in s["needs"])
        encode = {"merged": stage("encode", modalities, "merged", needs=tuple(needs), batch_size=250)}
        for pair, after in (
            ("image+audio", "text+audio"), ("image+video", "audio+video"), ("text+video", "image+video"),
        ):  # fmt: skip
            names = tuple(pair.split("+"))
            changes = {"needs": (f"joint.{after}",), "settings": alignment(names, names, names[1:])}
            joint[pair] = {**joint[after], "modalities": names, **changes}
        joint["audio+video"]["needs"] = ("environment.video", "joint.image+audio")
        for s in (*ldm.values(), *environment.values(), *joint.values()):
            s["source"] = "encode.merged"
            s["needs"] = ("encode.merged", *(need for need in s["needs"] if not need.startswith("encode.")))
        for name, s in ldm.items():
            s["modalities"] = (name, *(other for other in modalities if other != name))
            s["settings"]["prompts"]["sources"] = modalities
    everything = {
        "codec": codecs, "bridging": bridging, "encode": encode, "ldm": ldm, "environment": environment, "joint": joint,
    }  # fmt: skip
    for group, named in everything.items():
        for name, s in named.items():
            more = 1.5 if paper and group == "joint" else 1.0
            # A codec that has not learnt to tell digits apart leaves nothing for later stages to learn.
            longer = max(1.0, length) if group == "codec" else length
            s["steps"] = round(STEPS.get(f"{group}.{name}", 0) * longer * more)
            s["cost"] = SECONDS[f"{group}.{name}"] * longer * more
            s["optimizer"]["warmup"] = min(WARMUP, s["steps"] // 10)
    return {
        group: {name: s for name, s in named.items() if set(s["modalities"]) <= set(modalities)}
        for group, named in everything.items()
    }


def judge_stages(modalities: tuple[str, ...]) -> dict:
    """`config.stages` of the networks that evaluation reads with, on glyphs and voices that no generator sees."""
    judges = {
        name: stage(
            "judge", (name,), "judge", train=(f"{name}_judge/.*",), batch_size=128, steps=1500,
            optimizer=adamw(2e-3, warmup=WARMUP, weight_decay=0.05),
            settings={
                "factors": {factor: len(FACTORS[factor]) for factor in CARRIES[name]},
                "survive_blur": ("colour",) if "colour" in CARRIES[name] else (),
            },
        ) for name in modalities if name != "text"
    }  # fmt: skip
    similarity = {
        "all": stage(
            "similarity", modalities, "judge", train=tuple(f"{name}_similarity/.*" for name in modalities),
            batch_size=32, optimizer=adamw(2e-3, warmup=WARMUP, weight_decay=0.5), statistics=0, steps=800,
            settings={"views": ("text",)},
        )
    }  # fmt: skip
    return {"judge": judges, "similarity": similarity}


def get_config(argument: str = "") -> ConfigDict:
    """The run; `modalities=text+image` (or +audio) takes a part, `tiny` is a few steps, `length=3` thrice as many.

    `judges` trains what evaluation reads with, in place of the model.
    `loss=paper`, `tokens=map` and `pools=merged` are for comparison: only the last stages differ. `n`: of the
    evaluation.
    """
    # The first of each is ours.
    kinds = {
        "loss": ("ours", "paper"), "tokens": ("pooled", "map"), "pools": ("paired", "merged"),
        "floors": ("demo", "package"),
    }  # fmt: skip
    first = {name: values[0] for name, values in kinds.items()}
    options = parse_argument(
        argument, tiny=False, judges=False, length=1.0, modalities="+".join(MODALITIES), n=32, **first
    )
    for name, values in kinds.items():
        if getattr(options, name) not in values:
            raise ConfigError(f"config argument {name}: {' or '.join(values)}, not {getattr(options, name)}")
    asked = options.modalities.split("+")
    if unknown := [m for m in asked if m not in MODALITIES]:
        raise ConfigError(f"config argument modalities: no {', '.join(unknown)}; there are {', '.join(MODALITIES)}")
    modalities = tuple(m for m in MODALITIES if m in asked)
    if (merged := options.pools == "merged") and modalities != MODALITIES:
        raise ConfigError("config argument pools=merged: takes all modalities")
    model = {"text": text, "image": image, "audio": audio, "video": video}
    guidance = {
        "text": {"prompt": 2.0, "environment": 3.0},
        "image": {"prompt": 4.0, "environment": 8.0, "low": 0.3},
        "audio": {"prompt": 3.0, "environment": 8.0, "low": 0.3},
        "video": {"prompt": 4.0, "environment": 8.0, "low": 0.3},
    }
    # One t for all in training: none may run ahead of the others.
    delay = {} if options.loss == "paper" else {"image": 5, "audio": 5, "video": 5}
    config = {
        "seed": 0,
        "model": {
            "modalities": {name: model[name]() for name in modalities},
            "width": WIDTH,
            "prediction": "x0",
            "schedule": "cosine",
        },
        "sources": sources(modalities, merged, options.length),
        "stages": stages(modalities, options.length, options.loss == "paper", merged),
        "generate": {
            "steps": 10,
            "delay": {name: steps for name, steps in delay.items() if name in modalities},
            "guidance": {name: guidance[name] for name in modalities},
        },
        "evaluate": {
            "n": options.n,
            "seen": "test_seen",
            "held_out": "test_held_out",
            "reference": 512,
            "combinations": max(2, options.n // 16),
            "mixes": tuple(f"text|{name}->{name}" for name in modalities if name != "text"),
            # Those of evaluate/floors.py; a clip beside others is the hardest to generate.
            "floors": package_floors() if options.floors == "package" else {"hard": ("video",)},
        },
    }
    if options.floors == "package":  # what has a floor is measured; `make claims` measures the rest
        config["evaluate"].update(combinations=0, mixes=())
    if options.judges:
        config["stages"] = judge_stages(modalities)
        config["sources"]["judge"] = world(modalities, "judge", 40_000, seed=1)
    if any(getattr(options, name) != ours for name, ours in first.items() if name != "floors"):
        # They are compared by directions and by what is generated together; the rest costs most of an evaluation.
        config["evaluate"].update(combinations=0, mixes=(), pretrained=0, floors=None)
    config["model"]["environment_tokens"] = options.tokens
    for parts in config["model"]["modalities"].values():
        parts["environment"]["tokens"] = options.tokens
    if options.tiny:
        for s in (s for group in config["stages"].values() for s in group.values()):
            s.update(steps=4 if s["steps"] else 0, batch_size=8, statistics=16, checkpoint_every=2, log_every=1)
            s["optimizer"]["warmup"] = 1
        for s in config["sources"].values():
            s["size"] = 64
        config["generate"]["steps"] = 2
        config["evaluate"].update(n=12, reference=32, combinations=1, floors=None)
    return ConfigDict(config, convert_dict=True)
