"""The recipe of the paper at full size: nine stages, starting from the codecs and CLIP in `config.weights`.

Learning rates and batch sizes of the diffusion stages are the paper's (from memory), numbers of steps are ours. Prompts
are encoded in the step. A subset of the modalities has the stages that need no other modality.
"""

from collections.abc import Iterable
from typing import Any, Literal

from codi_jax.config import checked_fields, checked_options
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.digit_world import WorldConfig
from codi_jax.presets import codi
from codi_jax.presets.codi import ENVIRONMENT_WIDTH, MODALITIES, TOKENIZERS, Compat, DType
from codi_jax.presets.stages import Stages, adamw, stage
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.recipe import RunConfig

POOLS = ("text+image", "text+audio", "text+video", "audio+video")  # sources of pairs


def stages(modalities: Iterable[str], loss: str, timed: bool) -> Stages:
    """`config.stages`."""
    align: dict[str, Any] = {"align": "contrastive", "timesteps": "shared"}
    if loss == "ours":  # the anchor is a mean over E numbers whose squares sum up to 1
        align = {"align": "anchor", "timesteps": "independent", "align_weight": float(ENVIRONMENT_WIDTH)}
    spatial = ("!vision_unet/.*temporal.*", "vision_unet/.*")  # images do not use the temporal layers
    unets = {
        "text": ("text_unet/.*",),
        "image": spatial,
        "audio": ("audio_unet/.*",),
        "video": ("vision_unet/.*temporal.*",),
    }
    towers = {"audio": "clap_audio/.*", "video": "clip_vision/.*temporal.*"}  # images use CLIP's vision tower unchanged
    rates = {"text": (5e-5, 1024), "image": (2e-5, 256), "audio": (5e-6, 1024), "video": (2e-5, 256)}
    bridging = {
        f"text+{name}": stage(
            "bridging", ("text", name), f"text+{name}", trainable=(tower, "bridging/.*"), steps=20_000, batch_size=8192,
            ema=0.999, optimizer=adamw(1e-4, warmup=1000, weight_decay=1e-4),
            num_stats_samples=0,  # no prompt is centred, since no stage trains clip_text and all prompts need one scale
        ) for name, tower in towers.items()
    }  # fmt: skip
    ldm = {
        name: stage(
            "ldm", (name, "image") if name == "text" else (name, "text"),
            "text+image" if name == "text" else f"text+{name}", trainable=train, steps=100_000,
            batch_size=rates[name][1],
            depends_on=("ldm.image",) if name == "video" else (),
            ema=0.9999, optimizer=adamw(rates[name][0], warmup=1000, weight_decay=1e-4),
            settings={"prompts": {"sources": ("text", "image") if name == "text" else ("text",), "drop": 0.1}},
        ) for name, train in unets.items()
    }  # fmt: skip
    trained = {  # pair -> the modalities whose V and X it trains, its dependencies
        "text+image": (("text", "image"), ("ldm.text", "ldm.image")),
        "text+audio": (("audio",), ("bridging.text+audio", "ldm.audio", "joint.text+image")),
        "audio+video": (("video",), ("bridging.text+video", "ldm.video", "joint.text+audio")),
    }
    joint = {
        pool: stage(
            "latent_alignment", (pair := tuple(pool.split("+"))), pool, depends_on=depends_on, steps=50_000,
            batch_size=1024, trainable=tuple(f"{m}_{role}/.*" for m in aligned for role in ("environment", "cross")),
            ema=0.9999, optimizer=adamw(1e-5, warmup=1000, weight_decay=1e-4),
            settings={"losses": pair, "aligned": aligned, "prompts": {"sources": pair, "drop": 0.5}, **align},
        ) for pool, (aligned, depends_on) in trained.items()
    }  # fmt: skip
    pair = ("audio", "video")
    common: dict[str, Any] = {"steps": 50_000, "ema": 0.9999, "optimizer": adamw(1e-4, warmup=1000, weight_decay=1e-4)}
    timing = {
        "encoders": stage(
            "timing", pair, "audio+video", depends_on=("ldm.audio", "ldm.video"), batch_size=1024,
            trainable=tuple(f"{name}_timing/encoder/.*" for name in pair), **common,
        ),
        "audio+video": stage(
            "latent_alignment", pair, "audio+video", depends_on=("timing.encoders", "joint.audio+video"),
            batch_size=1024, trainable=tuple(f"{name}_timing/attention/.*" for name in pair), **common,
            settings={
                "losses": pair, "aligned": (), "align": "none", "timed": True,
                "prompts": {"sources": pair, "drop": 0.5},
            },
        ),
    }  # fmt: skip
    groups = {"bridging": bridging, "ldm": ldm, "joint": joint} | ({"timing": timing} if timed else {})
    out: Stages = {group: {} for group in groups}
    for group, named in groups.items():
        for name, s in named.items():  # in the order of their dependencies
            included = {f"{group}.{name}" for group, named in out.items() for name in named}
            if set(s.modalities) <= set(modalities) and set(s.depends_on) <= included:
                out[group][name] = s
    return out


@checked_options
def run(
    *,
    compat: Compat = "true",
    loss: Literal["ours", "paper"] = "ours",
    modalities: str | tuple[str, ...] = MODALITIES,
    size: int = 256,
    frames: int = 8,
    dtype: DType = "bfloat16",
    tokenizers: str = TOKENIZERS,
    timed: bool = False,
) -> RunConfig:
    """The config of the run, with placeholder data.

    Args:
      compat: see `codi.model`. The release shares V and X between image and video; that is for using its weights, not
        for training, and has no stages.
      loss: `ours`, or `paper` for the paper's latent alignment.
      modalities, size, frames, dtype, tokenizers, timed: see `codi.model`.

    Raises:
      ConfigError: an invalid option.
    """
    model = codi.model(
        compat=compat, modalities=modalities, size=size, frames=frames, dtype=dtype, tokenizers=tokenizers, timed=timed
    )
    release = compat == "release"
    guidance = ClassifierFreeGuidance(prompt=7.5, environment=0.0 if release else 2.0)
    return RunConfig(
        model=model,
        sources={
            pool: {
                "name": "digit_world",
                **checked_fields(WorldConfig, size=100_000, modalities=tuple(pool.split("+"))),
            }
            for pool in POOLS
            if set(pool.split("+")) <= set(model.modalities)
        },
        stages={} if release else stages(model.modalities, loss, timed),
        generate=GenerateConfig(dict.fromkeys(model.modalities, guidance), steps=50, spacing="release"),
    )
