"""Floors: the numbers below which a trained model does not work, and the one rule by which a number meets its floor.

    n >= 256:  the estimate meets the floor
    n <  256:  the upper end of its 95 % interval does, since a small sample may lie below a floor that the model meets

A floor may be a part of a ceiling, the rate at which the same reader reads real samples: the bound is floor x ceiling.

Checks are listed in the order of the pipeline, so that the first one that fails is nearest to the cause:

    reader      real samples are read right; below it nothing that this reader says counts
    codec       real samples, encoded and decoded, are read right
    direction   outputs show what their prompt says
    joint       outputs generated together show the same
    entropy     and do not show one value all the time
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.data.digit_world import FACTORS, LEADING
from codi_jax.evaluate.intervals import wilson
from codi_jax.evaluate.order import in_order
from codi_jax.modalities import REGISTRY

ENOUGH_SAMPLES = 256  # samples from which on the estimate itself has to meet the floor


def _check_rate(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"config.evaluate.floors.{name}: expected a number within 0 and 1, got {value}")


@dataclasses.dataclass(frozen=True)
class FloorsConfig:
    """`config.evaluate.floors`.

    Attributes:
      reader: of every factor, the part of real samples that has to be read right.
      codec: of every factor that a codec keeps, as a part of the ceiling.
      leading: of every direction, the world's leading factor, as a part of the ceiling.
      other: of every direction, all other factors, as a part of the ceiling.
      joint: agreement of two outputs on the leading factor.
      hard_joint: the same where one of the two is in `hard`.
      entropy: of the leading factor in every pair of outputs, as a part of the uniform distribution's.
      hard: modalities that are harder to generate together with others.
      cells: floors of single numbers, no parts of a ceiling, in place of the above: "prompt->output" or "output+output"
        -> factor -> floor. So sets of more than two outputs, and other factors than the leading one, have floors too.
    """

    reader: float = 0.5
    codec: float = 0.95
    leading: float = 0.85
    other: float = 0.8
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
        if unknown := [name for name in self.hard if name not in REGISTRY]:
            raise ConfigError(
                f"config.evaluate.floors.hard: no modality {unknown[0]!r}; there are {', '.join(REGISTRY)}"
            )


def meets(estimate: float, n: int, floor: float, interval: tuple[float, float] | None = None) -> bool:
    """Whether a number that was measured on n samples meets its floor, by the rule of this module.

    Args:
      estimate: the number.
      n: samples.
      floor: the bound; of a ceiling, the product.
      interval: its 95 % interval; Wilson's, as of a proportion, if not given.
    """
    return (estimate if n >= ENOUGH_SAMPLES else (interval or wilson(estimate, n))[1]) >= floor


@dataclasses.dataclass(frozen=True)
class Check:
    """One number and its floor.

    Attributes:
      kind: see the module.
      modalities: the one that is read, (prompt, output) of a direction, or the outputs of a set.
      factor: of the world.
      value: the estimate.
      n: samples that it was measured on.
      ceiling: what the same reader finds in real samples; 1 where the floor is no part of it.
      floor: as in the config.
      passed: whether it meets the floor.
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
        """The value as a part of its ceiling."""
        return self.value / self.ceiling if self.ceiling else 0.0


def checks(metrics: Mapping[str, Any], floors: FloorsConfig) -> tuple[Check, ...]:
    """Every check of an evaluation, in the order of the pipeline.

    Args:
      metrics: as `codi-jax evaluate` writes them to metrics.json.
      floors: the config's.
    """
    return tuple(_checks(in_order(metrics), floors))


def _rate(kind: str, modalities: tuple[str, ...], factor: str, row: Mapping[str, Any], n: int, floor: float) -> Check:
    value, ceiling, interval = row["accuracy"], row["ceiling"], tuple(row["interval"])
    return Check(kind, modalities, factor, value, n, ceiling, floor, meets(value, n, floor * ceiling, interval))


def _checks(metrics: Mapping[str, Any], floors: FloorsConfig) -> Iterator[Check]:
    for name, cell in metrics["codec"].items():
        for factor, row in cell["factors"].items():
            n, value = cell["n"], row["ceiling"]
            yield Check("reader", (name,), factor, value, n, 1.0, floors.reader, meets(value, n, floors.reader))
    for name, cell in metrics["codec"].items():
        for factor, row in cell["factors"].items():
            yield _rate("codec", (name,), factor, row, cell["n"], floors.codec)
    for direction, cell in metrics["matrix"].items():
        own = floors.cells.get(direction, {})
        for factor, row in cell["factors"].items():
            floor = own.get(factor, floors.leading if factor == LEADING else floors.other)
            row = {**row, "ceiling": 1.0} if factor in own else row
            yield _rate("direction", tuple(direction.split("->")), factor, row, cell["n"], floor)
    bounds = {title: _joint_bounds(title, floors) for title in metrics["joint"]}
    for title, cell in metrics["joint"].items():
        for factor, bound in bounds[title].items():
            yield _joint("joint", title, factor, cell, bound)
    for title, cell in metrics["joint"].items():
        if LEADING in bounds[title]:
            yield _joint("entropy", title, LEADING, cell, floors.entropy)


def _joint_bounds(title: str, floors: FloorsConfig) -> dict[str, float]:
    """Factor -> floor of the agreement of a set of outputs."""
    bounds, outputs = dict(floors.cells.get(title, {})), title.split("+")
    if len(outputs) == 2:
        bounds.setdefault(LEADING, floors.hard_joint if set(outputs) & set(floors.hard) else floors.joint)
    return bounds


def _joint(kind: str, title: str, factor: str, cell: Mapping[str, Any], bound: float) -> Check:
    value = cell[factor][kind]
    interval = cell[factor]["interval" if kind == "joint" else "entropy_interval"]
    passed = meets(value, cell["n"], bound, tuple(interval))
    return Check(kind, tuple(title.split("+")), factor, value, cell["n"], 1.0, bound, passed)
