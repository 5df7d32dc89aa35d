"""Readers: values of a modality back to the world's factors.

What says its factors in words is parsed by the world; the rest is judged by the network that a `judge` stage of the
recipe trained on glyphs that the generator never saw. A judge sees the values as a user would (decoded, quantised), so
whoever judges the saved samples again gets the same numbers.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, view
from codi_jax.data import digit_world
from codi_jax.data.digit_world import FACTORS
from codi_jax.evaluate import judges
from codi_jax.evaluate.agreement import UNREAD
from codi_jax.evaluate.samples import in_batches
from codi_jax.modalities import Modality


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was read off n values.

    Attributes:
      factors: factor -> int [n], an index into the factor's values or UNREAD.
      features: [n, F] of the judge, None where values are parsed.
    """

    factors: dict[str, np.ndarray]
    features: np.ndarray | None = None


class Parsed:
    """Reads by the world's own parser; what is not said, or said twice, is unread."""

    def __init__(self, parse: Any, factors: Sequence[str]):
        self._parse, self.factors = parse, tuple(factors)

    def __call__(self, values: Sequence[Any]) -> Reading:
        found = [self._parse(value) for value in values]
        number = lambda x: UNREAD if x is None else x  # noqa: E731
        return Reading({f: np.array([number(row[f]) for row in found], np.int64) for f in self.factors})


class Judged:
    """Reads by a judge, in batches of one size, so that one program serves all."""

    def __init__(self, modality: Modality, judge: judges.Judge, params: Any, factors: Sequence[str], batch: int):
        self._modality, self._params, self._batch, self.factors = modality, params, batch, tuple(factors)
        self._program = jax.jit(lambda params, media: judges.read(judge, params, modality.signal(media)))

    def __call__(self, values: Sequence[Any]) -> Reading:
        program = partial(self._program, self._params)
        factors, features = in_batches(self._modality, values, self._batch, program)
        return Reading({f: factors[f].astype(np.int64) for f in self.factors}, features)


Reader = Parsed | Judged


def make_readers(
    codi: CoDi, stages: Iterable[Any], params: dict[str, Any], batch: int, factors: Sequence[str] = tuple(FACTORS)
) -> dict[str, Reader]:
    """One reader a modality of the model.

    Args:
      codi: the model.
      stages: configs of the recipe's stages; those of objective `judge` say how the judges are built.
      params: component -> parameters, the judges' among them.
      batch: values that a judge sees at a time.
      factors: those of the world that are to be read.

    Raises:
      ConfigError: a modality that the world does not know, or that nothing reads, or a factor that its judge omits.
    """
    settings = {s.modalities[0]: s.settings for s in stages if s.objective == "judge"}
    readers: dict[str, Reader] = {}
    for name, modality in codi.modalities.items():
        if name not in digit_world.CARRIES:
            raise ConfigError(f"evaluate: digit_world has no {name}, so nothing of it can be counted")
        carried = tuple(factor for factor in digit_world.CARRIES[name] if factor in factors)
        if name in digit_world.READERS:
            readers[name] = Parsed(digit_world.READERS[name], carried)
            continue
        component = judges.component(name)
        if name not in settings or component not in params:
            raise ConfigError(f"evaluate: nothing reads {name}; the recipe needs a finished `judge` stage of it")
        config = view(judges.JudgeConfig, settings[name], "stages.judge.*.settings")
        if unread := [f for f in carried if f not in config.factors]:
            raise ConfigError(f"evaluate: the judge of {name} does not read its {', '.join(unread)}")
        readers[name] = Judged(modality, judges.Judge(config), params[component], carried, batch)
    return readers
