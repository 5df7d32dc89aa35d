"""Real samples, as natural values with their factors."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from codi_jax.codi import CoDi
from codi_jax.data.sources import Source, read


@dataclasses.dataclass(frozen=True)
class Samples:
    """n samples.

    Attributes:
      values: modality -> n natural values.
      factors: factor -> int [n].
    """

    values: dict[str, list[Any]]
    factors: dict[str, np.ndarray]


def take(codi: CoDi, source: Source, indices: Iterable[int]) -> Samples:
    """Samples `indices` of a source in every modality of the model."""
    rows = read(source, list(indices))
    return Samples(
        {name: modality.values(rows) for name, modality in codi.modalities.items()},
        {factor: np.asarray(value, np.int64) for factor, value in rows["factors"].items()},
    )


def array(values: list[Any]) -> np.ndarray:
    """Values as one array that .npz holds without pickling: strings, or media of one shape."""
    return np.stack([np.asarray(v) for v in values]) if not isinstance(values[0], str) else np.array(values, np.str_)
