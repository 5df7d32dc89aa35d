"""Adds the modality `pen` to the packaged model: its networks are trained, those of the other four are only read.

    codi-jax train --config=examples/fifth_modality/config.py --workdir=out/fifth
    python -m examples.fifth_modality.evaluate out/fifth

Reaches, in 7 core minutes: retrieval 0.97 to 1.00; joint agreement with text 0.99, image 0.99, audio 0.94, video 0.91.
The stages are those of one more modality in the preset `digit_world`; `tiny` is the recipe in a few steps, for tests.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from codi_jax import packaged
from codi_jax.config import from_dict
from codi_jax.config_utils import parse_argument, to_config_dict
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.encoders.sequence_kl import SequenceKLConfig
from codi_jax.encoders.sequence_tower import SequenceTowerConfig
from codi_jax.nn import EnvironmentConfig, UNetConfig
from codi_jax.presets.stages import Stages, adamw, shrink, stage
from codi_jax.train.recipe import RunConfig, StageConfig
from examples.fifth_modality.data import CHANNELS, LENGTH
from examples.fifth_modality.pen import PenConfig

WIDTH = 64  # D and E of the packaged model
LATENT = 12  # channels of the latent
FOUR = ("text", "image", "audio", "video")
GUIDANCE = ClassifierFreeGuidance(3.0, 8.0, low=0.3)
DELAY = 5
STEPS = {
    "codec.pen": 1000, "bridging.text+pen": 1000, "ldm.pen": 1500, "environment.pen": 600, "joint.text+pen": 600,
    "judge.pen": 800,
}  # fmt: skip


def pen() -> PenConfig:
    """`config.model.modalities.pen`."""
    sizes: dict[str, Any] = {"latent_channels": LATENT, "groups": 8, "multipliers": (1, 2), "blocks": (1, 1)}
    return PenConfig(
        codec=SequenceKLConfig(
            in_channels=CHANNELS, patch=4, channels=48, mult=(1, 2), blocks=1, embed_dim=LATENT, groups=8
        ),
        prompt=SequenceTowerConfig(
            in_channels=CHANNELS, length=LENGTH, patch=4, stem=(32, 64), width=WIDTH, layers=1, heads=4,
            feed_forward=128, projection=WIDTH,
        ),
        denoiser=UNetConfig(
            kind="sequence", channels=48, context_width=WIDTH, heads=4, attention_levels=(False, True),
            cross_modal_levels=(False, True), **sizes,
        ),
        environment=EnvironmentConfig(kind="sequence", channels=64, width=WIDTH, **sizes),
    )  # fmt: skip


def world(split: str = "train", size: int = 10_000, modalities: tuple[str, ...] = ("text",), **options) -> dict:
    """A source of samples with a pen."""
    return {"name": "pen_world", "split": split, "size": size, "modalities": modalities, **options}


def made(name: str, objective: str, modalities: Iterable[str], source: str, **options) -> StageConfig:
    """A stage of `STEPS`."""
    adam = options.pop("optimizer", adamw(2e-3, 50))
    return stage(objective, modalities, source, steps=STEPS[name], optimizer=adam, batch_size=64, **options)


def stages() -> Stages:
    """`config.stages`. Text is frozen everywhere; its joint loss reaches V of the pen through text's frozen X."""
    pair, encoded, prompts = ("text", "pen"), "encode.text+pen", {"sources": ("text", "pen"), "drop": 0.8, "noise": 0.3}
    alignment = {"losses": (), "aligned": ("pen",), "prompts": prompts, "target": "own"}
    of_denoiser = {"prompts": {"sources": ("text",), "drop": 0.15, "noise": 0.7}}
    factors = {"factors": {"digit": 10, "motion": 4}}
    return {
        "codec": {"pen": made("codec.pen", "codec", ("pen",), "pairs whole", trainable=("pen_codec/.*",),
                              optimizer=adamw(4e-3, 50), settings={"kl_weight": 1e-5})},
        "bridging": {"text+pen": made("bridging.text+pen", "bridging", pair, "pairs whole", settings={"max_scale": 7.0},
                                      trainable=("pen_tower/.*", "bridging/.*"), optimizer=adamw(2e-3, 50, 1.0))},
        "encode": {"text+pen": stage("encode", pair, "pairs", batch_size=250,
                                     depends_on=("codec.pen", "bridging.text+pen"))},
        "ldm": {"pen": made("ldm.pen", "ldm", pair[::-1], encoded, trainable=("pen_unet/.*",), depends_on=(encoded,),
                            settings=of_denoiser)},
        "environment": {"pen": made("environment.pen", "latent_alignment", pair, encoded, settings=alignment,
                                    trainable=("pen_environment/.*",), depends_on=("ldm.pen",))},
        "joint": {"text+pen": made("joint.text+pen", "latent_alignment", pair, encoded, depends_on=("environment.pen",),
                                   trainable=("pen_environment/.*", "pen_cross/.*"),
                                   settings={**alignment, "losses": pair})},
        "judge": {"pen": made("judge.pen", "judge", ("pen",), "judge", optimizer=adamw(2e-3, 50, 0.05),
                              trainable=("pen_judge/.*",), settings=factors, num_stats_samples=0)},
    }  # fmt: skip


def get_config(argument: str = "") -> ConfigDict:
    """The config; its argument may be `tiny`."""
    four = from_dict(RunConfig, packaged.open_package(packaged.DEFAULT).run)
    config = RunConfig(
        plugins=("examples.fifth_modality.pen",),  # which imports the source, too
        weights=packaged.DEFAULT,
        model=dataclasses.replace(four.model, modalities={**four.model.modalities, "pen": pen()}),
        sources={
            "pairs": world(seed=40, truncate=0.3),
            "pairs whole": world(seed=40, truncate=0.0, size=100_000, reword=True),
            "judge": world("judge", 40_000, seed=1),
            "val": world("val", 2_000, FOUR, seed=3, truncate=0.0),
            "test": world("test", 2_000, FOUR, seed=2, truncate=0.0),
        },
        stages=stages(),
        generate=dataclasses.replace(
            four.generate,
            guidance={**four.generate.guidance, "pen": GUIDANCE},
            delay={**four.generate.delay, "pen": DELAY},
        ),
    )
    return to_config_dict(shrink(config, {}) if parse_argument(argument, tiny=False).tiny else config)
