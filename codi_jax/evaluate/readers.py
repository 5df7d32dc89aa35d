"""Readers: values of a modality back to the world's factors.

What says its factors in words is parsed by the world, and what the world can measure without a network (how a video
moves) is measured; the rest is read by the judges of a packaged model, networks
trained on glyphs that no generator saw. They are frozen, so that numbers of different runs can be compared. A judge
sees the values as a user would (decoded, quantised) and preprocesses them as it was packaged to, whatever the model
does: whoever judges the saved samples again gets the same numbers.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, from_dict
from codi_jax.data import digit_world
from codi_jax.data.digit_world import FACTORS
from codi_jax.evaluate import judges
from codi_jax.evaluate.agreement import UNREAD
from codi_jax.evaluate.samples import in_batches
from codi_jax.modalities import Modality
from codi_jax.packaged import Package


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was read off n values.

    Attributes:
      factors: factor -> int [n], an index into the factor's values or UNREAD.
      features: [n, F] of the judge, None where values are parsed.
    """

    factors: dict[str, np.ndarray]
    features: np.ndarray | None = None


class ParserReader:
    """Reads by the world's own parser; what is not said, or said twice, is unread."""

    def __init__(self, parse: Any, factors: Sequence[str]):
        self._parse, self.factors = parse, tuple(factors)

    def __call__(self, values: Sequence[Any]) -> Reading:
        found = [self._parse(value) for value in values]
        number = lambda x: UNREAD if x is None else x  # noqa: E731
        return Reading({f: np.array([number(row[f]) for row in found], np.int64) for f in self.factors})


class JudgeReader:
    """Reads by a judge, in batches of one size, so that one program serves all.

    `measure`, natural values [n, ...] -> factor -> int [n], reads those factors in the judge's place.
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
        self._program = jax.jit(lambda params, media: judges.read(judge, params, modality.signal(media)))

    def __call__(self, values: Sequence[Any]) -> Reading:
        program = partial(self._program, self._params)
        factors, features = in_batches(self._modality, values, self._batch, program)
        factors = {**factors, **self._measure(np.stack([np.asarray(value) for value in values]))}
        return Reading({f: factors[f].astype(np.int64) for f in self.factors}, features)


Reader = ParserReader | JudgeReader


def make_readers(
    codi: CoDi, package: Package, batch: int, factors: Sequence[str] = tuple(FACTORS)
) -> dict[str, Reader]:
    """One reader a modality of the model.

    Args:
      codi: the model.
      package: whose judges read.
      batch: values that a judge sees at a time.
      factors: those of the world that are to be read.

    Raises:
      ConfigError: a modality that the world does not know, or that nothing reads, or a factor that its judge omits, or
        values of a size or rate that its judge was not trained on; the judges' file is missing or damaged.
    """
    readers: dict[str, Reader] = {}
    for name, modality in codi.modalities.items():
        if name not in digit_world.CARRIES:
            raise ConfigError(f"evaluate: digit_world has no {name}, so nothing of it can be counted")
        carried = tuple(factor for factor in digit_world.CARRIES[name] if factor in factors)
        if name in digit_world.READERS:
            readers[name] = ParserReader(digit_world.READERS[name], carried)
            continue
        if name not in package.judges["settings"]:
            raise ConfigError(
                f"evaluate: nothing reads {name}; the judges of {package.name} read "
                f"{', '.join(package.judges['settings'])}"
            )
        config = from_dict(judges.JudgeConfig, package.judges["settings"][name], f"judges.settings.{name}")
        if unread := [f for f in carried if f not in config.factors]:
            raise ConfigError(f"evaluate: the judge of {name} does not read its {', '.join(unread)}")
        theirs = package.judging[name]
        if modality.value_format != theirs.value_format:
            raise ConfigError(
                f"evaluate: the judge of {name} reads {_describe_format(theirs.value_format)}; "
                f"this model makes {_describe_format(modality.value_format)}"
            )
        component = judges.component(name)
        params = package.read("judges", (component,))["params"][component]
        measure = digit_world.MEASURES.get(name)
        readers[name] = JudgeReader(theirs, judges.Judge(config), params, carried, batch, measure)
    return readers


def _describe_format(value_format: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in value_format.items())
