"""Real samples, as natural values with their factors; values in batches."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.data.access import Source, read
from codi_jax.modalities import Modality


@dataclasses.dataclass(frozen=True)
class EvaluationSamples:
    """n samples.

    Attributes:
      values: modality -> n natural values.
      factors: factor -> int [n].
    """

    values: dict[str, list[Any]]
    factors: dict[str, np.ndarray]


def take(codi: CoDi, source: Source, indices: Iterable[int]) -> EvaluationSamples:
    """Samples `indices` of a source in every modality of the model."""
    rows = read(source, list(indices))
    return EvaluationSamples(
        {name: modality.values(rows) for name, modality in codi.modalities.items()},
        {factor: np.asarray(value, np.int64) for factor, value in rows["factors"].items()},
    )


def in_batches(modality: Modality, values: Sequence[Any], batch: int, function: Callable[[Any], Any]) -> Any:
    """A function of media over any number of values, `batch` at a time; the last value fills up the last batch.

    Returns:
      What it returns, on the host, a row for every value.
    """
    parts = []
    for start in range(0, len(values), batch):
        rows = list(values[start : start + batch])
        media = modality.media(rows + rows[-1:] * (batch - len(rows)))
        parts.append(jax.device_get(function(jax.tree.map(jnp.asarray, media))))
    return jax.tree.map(lambda *x: np.concatenate(x)[: len(values)], *parts)


def array(values: list[Any]) -> np.ndarray:
    """Values as one array that .npz holds without pickling: strings, or media of one shape."""
    return np.stack([np.asarray(v) for v in values]) if not isinstance(values[0], str) else np.array(values, np.str_)
