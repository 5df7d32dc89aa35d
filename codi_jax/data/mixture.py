"""Several sources as one, in given proportions.

    {"name": "mixture", "parts": {"laion": {"weight": 3.0, "name": "webdataset", …},
                                  "coco":  {"weight": 1.0, "name": "manifest", …}}}

Each part is gone through in an order of its own, again and again, so each has its own epochs: a small one begins
another whenever it is through, whatever the others do. Of any run of samples each part has its share, to within one.
With `whole_batches` the shares are of batches, each from one part alone; then parts may hold different modalities, and
a batch has the shapes of one of a few kinds. Which part is next depends on the step alone.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import jax
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data.source import Source, read_batch


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """A mixture.

    Attributes:
      parts: name -> config of a source, and its `weight` beside it (1 if it is left out).
      whole_batches: of one part each.
    """

    parts: dict[str, Any]
    whole_batches: bool = False


class Mixture:
    """The samples of all parts, one part after the other, and the order in which a run takes them.

    Args:
      parts: name -> (weight, source).
      whole_batches: see MixtureConfig.
    """

    def __init__(self, parts: Mapping[str, tuple[float, Source]], whole_batches: bool = False):
        if not parts:
            raise ConfigError("a mixture without parts")
        for name, (weight, source) in parts.items():
            if not (isinstance(weight, (int, float)) and 0 < weight < float("inf")):
                raise ConfigError(f"mixture, part {name!r}: weight is a positive number, not {weight!r}")
            if not len(source):
                raise ConfigError(f"mixture, part {name!r}: no samples")
        self.names, self._whole_batches = tuple(parts), whole_batches
        self._weights = [float(weight) for weight, _ in parts.values()]
        self._sources = [source for _, source in parts.values()]
        self._ends = np.cumsum([len(source) for source in self._sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _spans(self) -> list[tuple[int, int]]:
        return list(zip((0, *map(int, self._ends[:-1])), map(int, self._ends), strict=True))

    def __getitem__(self, index: int) -> Any:
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[part][index - self._spans()[part][0]]

    def read(self, indices: Sequence[int] | np.ndarray) -> Any:
        """Stacked samples.

        Raises:
          ConfigError: they are of parts whose samples hold different things.
        """
        indices = np.asarray(indices)
        part = np.searchsorted(self._ends, indices, side="right")
        there = np.unique(part)
        rows = [np.flatnonzero(part == k) for k in there]
        stacks = [
            read_batch(self._sources[k], indices[at] - self._spans()[k][0]) for k, at in zip(there, rows, strict=True)
        ]
        if len(stacks) == 1:
            return stacks[0]
        back = np.argsort(np.concatenate(rows))
        try:
            return jax.tree.map(lambda *leaves: np.concatenate(leaves)[back], *stacks)
        except ValueError as error:
            names = " and ".join(self.names[k] for k in there)
            raise ConfigError(
                f"mixture: {names} hold different things, which no batch can: whole_batches takes each from one part"
            ) from error

    def order(self, seed: int, batch_size: int) -> grain.MapDataset:
        """The indices of batch 0, 1, … without end."""
        parts = [
            grain.MapDataset.range(*span).seed((seed + k) % 2**32).shuffle().repeat()
            for k, span in enumerate(self._spans())
        ]
        if self._whole_batches:
            return grain.MapDataset.mix([part.batch(batch_size) for part in parts], self._weights)
        return grain.MapDataset.mix(parts, self._weights).batch(batch_size)

    def epochs(self, samples: int) -> dict[str, float]:
        """How often each part has been gone through after so many samples of a run."""
        shares = np.asarray(self._weights) / sum(self._weights)
        return {
            f"epoch/{name}": samples * share / len(source)
            for name, share, source in zip(self.names, shares, self._sources, strict=True)
        }

    def chunks(self, batch_size: int) -> Iterator[range]:
        """All indices once, in runs of at most so many of one part: the parts in turn, as long as they last."""
        starts = [range(first, end, batch_size) for first, end in self._spans()]
        for turn in range(max(map(len, starts))):
            for own, (_, end) in zip(starts, self._spans(), strict=True):
                if turn < len(own):
                    yield range(own[turn], min(own[turn] + batch_size, end))
