"""Floors: the smallest acceptable values of the metrics, and the rule by which a metric meets its floor.

    n >= 256:  the estimate must reach the floor
    n <  256:  the upper end of its 95 % interval must, since the estimate of a small sample may be low by chance

The interval is that of metrics.json, which clusters samples that share a glyph or a speaker; metrics from before that
have Wilson's of independent samples.

A floor may be relative to a ceiling, the accuracy of the same reader on real samples: the bound is floor x ceiling.

Checks are listed in the order of the pipeline, so that the first one that fails is nearest to the cause:

    reader        accuracy of the reader on real samples; if it is too low, metrics from this reader mean nothing
    codec         accuracy on real samples after encoding and decoding
    direction     accuracy of the outputs given their prompts
    combinations  mean accuracy over every set of prompts to every set of outputs, if it is of at least 32 prompts; a
                  single one of these sets has few samples, and no floor
    joint         agreement of outputs generated together
    entropy       diversity of outputs generated together
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codi_jax.config import ConfigError, config_class
from codi_jax.digit_world import FACTORS, LEADING
from codi_jax.digit_world.benchmark.order import in_order
from codi_jax.metrics.intervals import wilson
from codi_jax.modalities import MODALITIES

ENOUGH_SAMPLES = 256  # from this number of samples on, the estimate itself must reach the floor
ENOUGH_PROMPTS = 32  # samples of every set of prompts and outputs from which on their mean has a floor
ANY = ("every set of prompts", "every set of outputs")  # the modalities of that check


def _check_rate(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"config.evaluate.floors.{name}: expected a number between 0 and 1, got {value}")


@config_class()
class FloorsConfig:
    """`config.evaluate.floors`.

    Attributes:
      reader: accuracy of the readers on real samples, for every factor.
      codec: accuracy after a codec round trip, relative to the ceiling, for every factor.
      leading: accuracy of every direction on the world's leading factor, relative to the ceiling.
      other: accuracy of every direction on the other factors, relative to the ceiling.
      combinations: mean accuracy over every set of prompts to every set of outputs on the leading factor, absolute.
      joint: agreement of two outputs on the leading factor.
      hard_joint: the same if one of the two is in `hard`.
      entropy: entropy of the leading factor in every pair of outputs, relative to the uniform distribution.
      hard: modalities that are harder to generate together with others.
      cells: absolute floors that replace or extend the above: "prompt->output" or "output+output" -> factor -> floor.
        They can name sets of more than two outputs, and factors other than the leading one.
    """

    reader: float = 0.5
    codec: float = 0.95
    leading: float = 0.85
    other: float = 0.8
    combinations: float = 0.85
    joint: float = 0.8
    hard_joint: float = 0.6
    entropy: float = 0.9
    hard: tuple[str, ...] = ()
    cells: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.name not in ("hard", "cells"):
                _check_rate(field.name, getattr(self, field.name))
        for cell, factors in self.cells.items():
            for factor, floor in factors.items():
                _check_rate(f"cells.{cell}.{factor}", floor)
                if factor not in FACTORS:
                    raise ConfigError(
                        f"config.evaluate.floors.cells.{cell}: no factor {factor!r}; there are {', '.join(FACTORS)}"
                    )
        if unknown := [name for name in self.hard if name not in MODALITIES]:
            raise ConfigError(
                f"config.evaluate.floors.hard: no modality {unknown[0]!r}; there are {', '.join(MODALITIES)}"
            )


def meets(estimate: float, n: int, floor: float, interval: Sequence[float] | None = None) -> bool:
    """Whether an estimate from n samples meets its floor, by the rule in the module's docstring.

    Args:
      estimate: the estimate.
      n: number of samples.
      floor: the bound, already multiplied by the ceiling if it is relative to one.
      interval: 95 % interval of the estimate; by default the Wilson interval of a proportion.
    """
    return (estimate if n >= ENOUGH_SAMPLES else (interval or wilson(estimate, n))[1]) >= floor


@dataclasses.dataclass(frozen=True)
class Check:
    """One metric and its floor.

    Attributes:
      kind: reader, codec, direction, combinations, joint or entropy, see the module's docstring.
      modalities: (modality,) of a reader or codec, (prompt, output) of a direction, the outputs of a set, or `ANY`.
      factor: factor of the world.
      value: the estimate.
      n: number of samples.
      ceiling: accuracy of the same reader on real samples; 1 if the floor is absolute.
      floor: as in the config.
      passed: whether the value meets the floor.
    """

    kind: str
    modalities: tuple[str, ...]
    factor: str
    value: float
    n: int
    ceiling: float
    floor: float
    passed: bool

    @property
    def bound(self) -> float:
        return self.floor * self.ceiling

    @property
    def fraction(self) -> float:
        """The value divided by the ceiling; 0 if the ceiling is 0."""
        return self.value / self.ceiling if self.ceiling else 0.0


def checks(metrics: Mapping[str, Any], floors: FloorsConfig) -> tuple[Check, ...]:
    """All checks of an evaluation, in the order of the pipeline.

    Args:
      metrics: contents of metrics.json.
      floors: the floors of the config.
    """
    return tuple(_checks(in_order(metrics), floors))


def _rate(kind: str, modalities: tuple[str, ...], factor: str, row: Mapping[str, Any], n: int, floor: float) -> Check:
    value, ceiling, interval = row["accuracy"], row["ceiling"], row["interval"]
    return Check(kind, modalities, factor, value, n, ceiling, floor, meets(value, n, floor * ceiling, interval))


def _checks(metrics: Mapping[str, Any], floors: FloorsConfig) -> Iterator[Check]:
    for name, cell in metrics["codec"].items():
        for factor, row in cell["factors"].items():
            row = {"accuracy": row["ceiling"], "interval": row.get("ceiling_interval"), "ceiling": 1.0}
            yield _rate("reader", (name,), factor, row, cell["n"], floors.reader)
    for name, cell in metrics["codec"].items():
        for factor, row in cell["factors"].items():
            yield _rate("codec", (name,), factor, row, cell["n"], floors.codec)
    for direction, cell in metrics["matrix"].items():
        absolute = floors.cells.get(direction, {})
        for factor, row in cell["factors"].items():
            floor = absolute.get(factor, floors.leading if factor == LEADING else floors.other)
            row = {**row, "ceiling": 1.0} if factor in absolute else row
            yield _rate("direction", tuple(direction.split("->")), factor, row, cell["n"], floor)
    mean = metrics.get("combinations_mean")
    if mean and mean["n"] >= ENOUGH_PROMPTS:
        row = {"accuracy": mean[LEADING], "interval": mean["interval"], "ceiling": 1.0}
        yield _rate("combinations", ANY, LEADING, row, mean["n"], floors.combinations)
    bounds = {title: _joint_bounds(title, floors) for title in metrics["joint"]}
    for title, cell in metrics["joint"].items():
        for factor, bound in bounds[title].items():
            yield _joint("joint", title, factor, cell, bound)
    for title, cell in metrics["joint"].items():
        if LEADING in bounds[title]:
            yield _joint("entropy", title, LEADING, cell, floors.entropy)


def _joint_bounds(title: str, floors: FloorsConfig) -> dict[str, float]:
    """Floors of the agreement of a set of outputs, by factor."""
    bounds, outputs = dict(floors.cells.get(title, {})), title.split("+")
    if len(outputs) == 2:
        bounds.setdefault(LEADING, floors.hard_joint if set(outputs) & set(floors.hard) else floors.joint)
    return bounds


def _joint(kind: str, title: str, factor: str, cell: Mapping[str, Any], bound: float) -> Check:
    value = cell[factor][kind]
    interval = cell[factor]["interval" if kind == "joint" else "entropy_interval"]
    passed = meets(value, cell["n"], bound, interval)
    return Check(kind, tuple(title.split("+")), factor, value, cell["n"], 1.0, bound, passed)
