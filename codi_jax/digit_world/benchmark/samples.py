"""Real samples as raw values with their factors, and functions over raw values in batches."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.data.source import Source, read_batch
from codi_jax.digit_world import INSTANCES
from codi_jax.modalities import Modality


@dataclasses.dataclass(frozen=True)
class EvaluationSamples:
    """n samples.

    Attributes:
      values: modality -> n raw values.
      factors: factor -> int [n].
      instances: name of an instance of the world -> int [n]; {} for a source that does not know them.
    """

    values: dict[str, list[Any]]
    factors: dict[str, np.ndarray]
    instances: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def clusterings(self, modalities: Iterable[str]) -> tuple[np.ndarray, ...]:
        """See the function of this name."""
        return clusterings(self.instances, modalities)


def clusterings(instances: Mapping[str, np.ndarray], modalities: Iterable[str]) -> tuple[np.ndarray, ...]:
    """What samples share in some modalities, as `metrics.intervals.proportion_interval` takes it.

    Args:
      instances: name of an instance -> int [n].
      modalities: image and video have glyphs, audio has speakers; text has nothing that samples share.
    """
    names = [INSTANCES.get(modality) for modality in modalities]
    return tuple(np.asarray(instances[name]) for name in names if name is not None and name in instances)


def take(codi: CoDi, source: Source, indices: Iterable[int]) -> EvaluationSamples:
    """Reads samples `indices` of a source, in every modality of the model."""
    rows = read_batch(source, list(indices))
    return EvaluationSamples(
        {name: modality.raw_from_batch(rows) for name, modality in codi.modalities.items()},
        {factor: np.asarray(value, np.int64) for factor, value in rows["factors"].items()},
        {name: np.asarray(value, np.int64) for name, value in rows.get("instances", {}).items()},
    )


def in_batches(modality: Modality, values: Sequence[Any], batch: int, function: Callable[[Any], Any]) -> Any:
    """Applies a function of media to raw values, `batch` at a time; the last batch is padded with the last value.

    Returns:
      The function's outputs on the host, concatenated, with one row for each value.
    """
    parts = []
    for start in range(0, len(values), batch):
        rows = list(values[start : start + batch])
        media = modality.preprocess(rows + rows[-1:] * (batch - len(rows)))
        parts.append(jax.device_get(function(jax.tree.map(jnp.asarray, media))))
    return jax.tree.map(lambda *x: np.concatenate(x)[: len(values)], *parts)


def array(values: list[Any]) -> np.ndarray:
    """Stacks raw values of one shape, or strings, to an array that is stored in .npz without pickling."""
    return np.stack([np.asarray(v) for v in values]) if not isinstance(values[0], str) else np.array(values, np.str_)
