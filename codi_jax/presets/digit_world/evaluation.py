"""The evaluation of the packaged model: its floors, and what is measured."""

from typing import Any

from codi_jax.config import checked_fields
from codi_jax.digit_world import CARRIES
from codi_jax.digit_world.benchmark.config import EvaluateConfig
from codi_jax.digit_world.benchmark.floors import ENOUGH_PROMPTS, ENOUGH_SAMPLES

# Floors of the packaged model: lower ends of the 95 % intervals of its results, as of 256 independent samples. Other
# factors of a direction than the digit have the floor 0.97.
DIRECTIONS = {  # prompt -> output -> floor of the digit
    "text": {"text": 0.97, "image": 0.98, "audio": 0.98, "video": 0.97},
    "image": {"text": 0.95, "image": 0.95, "audio": 0.95, "video": 0.94},
    "audio": {"text": 0.94, "image": 0.97, "audio": 0.96, "video": 0.97},
    "video": {"text": 0.97, "image": 0.96, "audio": 0.97, "video": 0.97},
}
JOINT = {  # outputs -> factor -> floor of the fraction of samples in which all outputs that carry it agree
    "text+image": {"digit": 0.96, "colour": 0.97},
    "text+audio": {"digit": 0.97, "motion": 0.94, "voice": 0.94, "moment": 0.94},
    "text+video": {"digit": 0.92, "colour": 0.95, "motion": 0.82, "moment": 0.86},
    "image+audio": {"digit": 0.94},
    "image+video": {"digit": 0.81, "colour": 0.97},
    "audio+video": {"digit": 0.82, "motion": 0.94, "moment": 0.88},
    "text+image+audio": {"digit": 0.92, "colour": 0.95, "motion": 0.90, "voice": 0.90, "moment": 0.93},
    "text+image+video": {"digit": 0.82, "colour": 0.94, "motion": 0.74, "moment": 0.68},
    "text+audio+video": {"digit": 0.85, "colour": 0.87, "motion": 0.79, "voice": 0.87, "moment": 0.85},
    "image+audio+video": {"digit": 0.77, "colour": 0.94, "motion": 0.88, "moment": 0.77},
    "text+image+audio+video": {"digit": 0.79, "colour": 0.88, "motion": 0.77, "voice": 0.82, "moment": 0.76},
}
ENTROPY = 0.87  # of the digit, relative to uniform; the lowest is that of audio and video
COMBINATIONS = 0.98  # mean over every set of prompts to every set of outputs


def package_floors() -> dict:
    """`config.evaluate.floors` of the packaged model."""
    cells = {
        f"{a}->{b}": {f: digit if f == "digit" else 0.97 for f in CARRIES[a] if f in CARRIES[b]}
        for a, outputs in DIRECTIONS.items() for b, digit in outputs.items()
    }  # fmt: skip
    return {"hard": ("video",), "entropy": ENTROPY, "combinations": COMBINATIONS, "cells": cells | JOINT}


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
