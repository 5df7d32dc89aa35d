"""What a measure is: the cases to which a metric applies, and the numbers of each.

Intervals are of 95 %. One is affordable if its resamples take at most `AFFORDABLE` multiplications, some minutes on two
cores, unless the user has set the number of resamples.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from codi_jax.evaluation.settings import Settings
from codi_jax.evaluation.study import Study
from codi_jax.metrics import frechet
from codi_jax.metrics.bootstrap import BootstrapInterval
from codi_jax.metrics.frechet import Moments

RESAMPLES = 200
NO_INTERVAL = f"no interval: {RESAMPLES} resamples take long here; --resamples=R asks for one"
AFFORDABLE = 5e12
BLOCK = 1024  # rows that are read at a time


@dataclasses.dataclass(frozen=True)
class Case:
    """What one metric is measured of.

    Attributes:
      on: modalities.
      label: of the network; "" for none.
      sides: of each modality, for pairs.
    """

    on: tuple[str, ...]
    label: str = ""
    sides: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Result:
    """Numbers of a metric.

    Attributes:
      numbers: by name; the first is the metric itself.
      details: further numbers, which the table leaves out.
      n: samples.
      n_reference: real samples; None if there are none in the definition.
      intervals: name of a number -> lower and upper bound.
      notes: what a reader must know.
      options: what else the numbers depend on.
    """

    numbers: Mapping[str, float]
    n: int
    n_reference: int | None = None
    intervals: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    details: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric of a measurement.

    Attributes:
      needs: what it applies to, for those who miss it.
      cases: what it can be measured of; decides by names and numbers of samples, and reads no file.
      measure: the numbers of a case.
    """

    needs: str
    cases: Callable[[Study], Iterator[Case]]
    measure: Callable[[Study, Case], Result]


def resamples(settings: Settings, cost: float) -> int:
    """The number of resamples; 0 for no interval.

    Args:
      settings: of the measurement.
      cost: multiplications of one resample.
    """
    if settings.resamples is not None:
        return settings.resamples
    return RESAMPLES if RESAMPLES * cost <= AFFORDABLE else 0


def split(found: Mapping[str, float], names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """The numbers of these names, and the others except for n."""
    return {name: found[name] for name in names}, {k: x for k, x in found.items() if k not in (*names, "n")}


def bounds(found: BootstrapInterval) -> list[float]:
    """Lower and upper bound."""
    return [found.low, found.high]


def row_blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of rows, of which one is in memory at a time."""
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]


def moments(rows: np.ndarray) -> Moments:
    """Moments of rows that are read in blocks."""
    total = None
    for block in row_blocks(rows):
        part = frechet.moments(block)
        total = part if total is None else frechet.merge(total, part)
    assert total is not None  # there is a sample
    return total
