"""Readers: functions from raw values of a modality to the factors of the world.

Text is parsed by the world's parser, and factors that can be measured without a network (the motion of a video) are
measured. All other factors are read by the judges of a packaged model, which were trained on glyphs that no generator
was trained on and are frozen, so that metrics of different runs are comparable. A judge reads raw values (decoded,
quantised) and preprocesses them as configured in its package, independently of the evaluated model, so that saved
samples give the same metrics when they are read again.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from codi_jax import digit_world
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, from_dict
from codi_jax.digit_world import FACTORS, judges
from codi_jax.digit_world.benchmark.samples import in_batches
from codi_jax.metrics.agreement import UNREAD
from codi_jax.modalities import Modality
from codi_jax.packaged import Package


@dataclasses.dataclass(frozen=True)
class Reading:
    """The factors read from n values.

    Attributes:
      factors: factor -> int [n], an index into the factor's values or UNREAD.
      features: features of the judge [n, F], None if values are parsed.
    """

    factors: dict[str, np.ndarray]
    features: np.ndarray | None = None


class ParserReader:
    """Reads values with the world's parser; a factor that is missing or ambiguous is UNREAD."""

    def __init__(self, parse: Any, factors: Sequence[str]):
        self._parse, self.factors = parse, tuple(factors)

    def __call__(self, values: Sequence[Any]) -> Reading:
        parsed = [self._parse(value) for value in values]
        number = lambda x: UNREAD if x is None else x  # noqa: E731
        return Reading({f: np.array([number(row[f]) for row in parsed], np.int64) for f in self.factors})


class JudgeReader:
    """Reads values with a judge, in batches of one size, so that one compiled program serves all.

    `measure`, a function of raw values [n, ...] to {factor: int [n]}, replaces the judge for the factors it returns.
    """

    def __init__(
        self,
        modality: Modality,
        judge: judges.Judge,
        params: Any,
        factors: Sequence[str],
        batch: int,
        measure: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None,
    ):
        self._modality, self._params, self._batch, self.factors = modality, params, batch, tuple(factors)
        self._measure = measure or (lambda values: {})
        self._program = jax.jit(lambda params, media: judges.read(judge, params, modality.codec_input(media)))

    def __call__(self, values: Sequence[Any]) -> Reading:
        program = partial(self._program, self._params)
        factors, features = in_batches(self._modality, values, self._batch, program)
        factors = {**factors, **self._measure(np.stack([np.asarray(value) for value in values]))}
        return Reading({f: factors[f].astype(np.int64) for f in self.factors}, features)


Reader = ParserReader | JudgeReader


def make_readers(
    codi: CoDi, package: Package, batch: int, factors: Sequence[str] = tuple(FACTORS)
) -> dict[str, Reader]:
    """One reader for each modality of the model.

    Args:
      codi: the model.
      package: the package with the judges.
      batch: batch size of the judges.
      factors: factors of the world to read.

    Raises:
      ConfigError: a modality is not in the world or has no judge, a judge does not read one of the factors or was
        trained on values of another size or rate, or the file of the judges is missing or damaged.
    """
    readers: dict[str, Reader] = {}
    for name, modality in codi.modalities.items():
        if name not in digit_world.CARRIES:
            raise ConfigError(f"evaluate: digit_world has no {name}, so it cannot be evaluated")
        carried = tuple(factor for factor in digit_world.CARRIES[name] if factor in factors)
        if name in digit_world.READERS:
            readers[name] = ParserReader(digit_world.READERS[name], carried)
            continue
        if name not in package.judges["settings"]:
            raise ConfigError(
                f"evaluate: no judge reads {name}; the judges of {package.name} read "
                f"{', '.join(package.judges['settings'])}"
            )
        config = from_dict(judges.JudgeConfig, package.judges["settings"][name], f"judges.settings.{name}")
        if unread := [f for f in carried if f not in config.factors]:
            raise ConfigError(f"evaluate: the judge of {name} does not read its {', '.join(unread)}")
        packaged = package.judging[name]
        if modality.value_format != packaged.value_format:
            raise ConfigError(
                f"evaluate: the judge of {name} reads {_describe_format(packaged.value_format)}; "
                f"this model generates {_describe_format(modality.value_format)}"
            )
        component = judges.component(name)
        params = package.read("judges", (component,))["params"][component]
        measure = digit_world.MEASURES.get(name)
        readers[name] = JudgeReader(packaged, judges.Judge(config), params, carried, batch, measure)
    return readers


def _describe_format(value_format: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in value_format.items())
