"""The evaluation of the packaged model: its floors, and what is measured."""

from typing import Any

from codi_jax.config import checked_fields
from codi_jax.digit_world import CARRIES
from codi_jax.digit_world.benchmark.config import EvaluateConfig
from codi_jax.digit_world.benchmark.floors import ENOUGH_PROMPTS, ENOUGH_SAMPLES

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


def evaluation(modalities: tuple[str, ...], n: int, floors: str, variant: bool, pretrained: int) -> dict[str, Any]:
    """`config.evaluate`.

    Args:
      modalities: of the model.
      n: samples of every direction and of every joint generation.
      floors: `demo`, or `package` for those of the packaged model.
      variant: whether the run is a variant, which is compared with the main one by directions and joint generation;
        the other measurements take most of the time.
      pretrained: number of samples that pretrained judges read; 0 for the default, and none of a variant.
    """
    out = {
        "n": n, "seen": "test_seen", "held_out": "test_held_out", "reference": 512,
        "combinations": ENOUGH_PROMPTS if n >= ENOUGH_SAMPLES else max(2, n // 16),
        "mixes": tuple(f"text|{name}->{name}" for name in modalities if name != "text"),
        # The default floors of digit_world/benchmark/floors.py; joint generation with video is the hardest.
        "floors": package_floors() if floors == "package" else {"hard": ("video",)},
    }  # fmt: skip
    if variant:
        out |= {"combinations": 0, "mixes": (), "pretrained": 0, "floors": None}
    elif floors == "package":  # what has floors, and memorisation
        out |= {"mixes": (), "neighbours": 10_000}
    if pretrained:
        out["pretrained"] = pretrained
    return checked_fields(EvaluateConfig, **out)
