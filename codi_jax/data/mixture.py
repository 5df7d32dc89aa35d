"""A weighted mixture of sources.

    {"name": "mixture", "parts": {"laion": {"weight": 3.0, "name": "webdataset", …},
                                  "coco":  {"weight": 1.0, "name": "manifest", …}}}

Each part is shuffled and repeated independently of the others, with its own epochs. In any sequence of consecutive
samples the number from each part is proportional to its weight, to within one. With `whole_batches` this holds for
batches, and each batch comes from one part; parts may then hold different modalities, and batches have a few different
structures. The part that a batch comes from depends on the step alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import jax
import numpy as np

from codi_jax.config import ConfigError, config_class
from codi_jax.data.source import Source, make_source, read_batch, register


@config_class()
class MixtureConfig:
    """Config of a mixture.

    Attributes:
      parts: name -> config of a source, or {"stage": the name of an `encode` stage}, with an additional key `weight` (1
        by default).
      whole_batches: take each batch from one part.
    """

    parts: dict[str, Any]
    whole_batches: bool = False

    def __post_init__(self):
        for name, part in self.parts.items():
            if not hasattr(part, "items"):
                raise ConfigError(f"mixture.parts.{name}: expected the config of a source, got {part!r}")


class Mixture:
    """The concatenation of several sources, and the order in which training reads it.

    Args:
      parts: name -> (weight, source).
      whole_batches: see MixtureConfig.

    Raises:
      ConfigError: no parts, an empty part, or a weight that is not a positive number.
    """

    def __init__(self, parts: Mapping[str, tuple[float, Source]], whole_batches: bool = False):
        if not parts:
            raise ConfigError("mixture: no parts")
        for name, (weight, source) in parts.items():
            if not (isinstance(weight, (int, float)) and 0 < weight < float("inf")):
                raise ConfigError(f"mixture, part {name!r}: weight must be a positive number, got {weight!r}")
            if not len(source):
                raise ConfigError(f"mixture, part {name!r}: no samples")
        self.names, self._whole_batches = tuple(parts), whole_batches
        self._weights = [float(weight) for weight, _ in parts.values()]
        self._sources = [source for _, source in parts.values()]
        self._ends = np.cumsum([len(source) for source in self._sources])

    @property
    def parts(self) -> dict[str, Source]:
        """The sources by name."""
        return dict(zip(self.names, self._sources, strict=True))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _spans(self) -> list[tuple[int, int]]:
        return list(zip((0, *map(int, self._ends[:-1])), map(int, self._ends), strict=True))

    def __getitem__(self, index: int) -> Any:
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[part][index - self._spans()[part][0]]

    def read(self, indices: Sequence[int] | np.ndarray) -> Any:
        """Reads the samples `indices`, stacked.

        Raises:
          ConfigError: they come from parts whose samples have different structures.
        """
        indices = np.asarray(indices)
        part = np.searchsorted(self._ends, indices, side="right")
        parts = np.unique(part)
        rows = [np.flatnonzero(part == k) for k in parts]
        stacks = [
            read_batch(self._sources[k], indices[r] - self._spans()[k][0]) for k, r in zip(parts, rows, strict=True)
        ]
        if len(stacks) == 1:
            return stacks[0]
        order = np.argsort(np.concatenate(rows))
        try:
            return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *stacks)
        except ValueError as error:
            names = " and ".join(self.names[k] for k in parts)
            raise ConfigError(
                f"mixture: samples of {names} have different structures; whole_batches takes each batch from one part"
            ) from error

    def order(self, seed: int, batch_size: int) -> grain.MapDataset:
        """The indices of batch 0, 1, …, endless."""
        parts = [
            grain.MapDataset.range(*span).seed((seed + k) % 2**32).shuffle().repeat()
            for k, span in enumerate(self._spans())
        ]
        if self._whole_batches:
            return grain.MapDataset.mix([part.batch(batch_size) for part in parts], self._weights)
        return grain.MapDataset.mix(parts, self._weights).batch(batch_size)

    def epochs(self, samples: int) -> dict[str, float]:
        """The number of epochs of each part after `samples` samples of training."""
        shares = np.asarray(self._weights) / sum(self._weights)
        return {
            f"epoch/{name}": samples * share / len(source)
            for name, share, source in zip(self.names, shares, self._sources, strict=True)
        }

    def chunks(self, batch_size: int) -> Iterator[range]:
        """All indices once, in chunks of at most `batch_size` of one part, round-robin over the parts."""
        starts = [range(first, end, batch_size) for first, end in self._spans()]
        for turn in range(max(map(len, starts))):
            for part, (_, end) in zip(starts, self._spans(), strict=True):
                if turn < len(part):
                    yield range(part[turn], min(part[turn] + batch_size, end))


def make_mixture(config: MixtureConfig, make: Callable[[dict[str, Any], str], Source]) -> Mixture:
    """The mixture of a config.

    Args:
      config: see MixtureConfig.
      make: makes a source from the config of a part, without `weight`, and its path in the whole config.

    Raises:
      ConfigError: a part cannot be made, see also `Mixture`.
    """
    parts = {}
    for name, part in sorted(config.parts.items()):  # sorted, since a ConfigDict keeps no order
        rest = dict(part.items())
        weight = rest.pop("weight", 1.0)
        parts[name] = (weight, make(rest, f"mixture.parts.{name}"))
    return Mixture(parts, config.whole_batches)


def _make_part(config: dict[str, Any], where: str) -> Source:
    if "stage" in config:
        raise ConfigError(f"config.{where}.stage: the samples of an encode stage are read by training stages only")
    return make_source(config, where)


@register("mixture", MixtureConfig)
def _mixture(config: MixtureConfig) -> Mixture:
    return make_mixture(config, _make_part)
