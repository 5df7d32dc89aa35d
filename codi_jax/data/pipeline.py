"""Batches of a source with grain, resumable at any step on any number of hosts.

    row r of global batch s  =  source[ order( s·B + r ) ],      order: a new permutation of the source every epoch
                                                                 (of each part of a mixture, see data.mixture)

Each host reads the rows of the global batch that its devices hold. The global batch therefore holds the same samples
*in the same rows* for any number of hosts, and noise drawn by row is the same, too. (grain's ElasticIterator assigns
rows round-robin: the same set, in an order that depends on the number of hosts.) Batches may span two epochs, and the
state is one number. Only indices are shuffled and batched; `read_batch` then reads a whole batch at once.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grain
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data.mixture import Mixture
from codi_jax.data.source import Source, read_batch, transform_rows


class Batches(Iterator[Any]):
    """An endless, checkpointable iterator of this host's rows of every global batch.

    Its state is {"next_index": s·B} and equal on all hosts; prefetched batches that were not returned do not count.

    Args:
      source: samples by index.
      batch_size: B, rows of the global batch.
      seed: seed of the order, in [0, 2^32).
      start_step: the first step to return.
      transform: maps a stacked batch (this host's rows) to the input of the training step; see `transform_rows`. It
        runs in the data threads.
      rows: the rows of the global batch that this host reads, in the order in which it returns them; None for all.
      threads: number of batches read in parallel; 0 reads in the caller's thread.
      prefetch: number of batches to prefetch.

    Raises:
      ConfigError: the source is empty, the batch size is below 1, or the seed is out of range.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int,
        *,
        start_step: int = 0,
        transform: Callable[[Any], Any] | None = None,
        rows: np.ndarray | None = None,
        threads: int = 2,
        prefetch: int = 4,
    ):
        if not len(source):
            raise ConfigError("the data source has no samples")
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= seed < 2**32:
            raise ConfigError(f"the data seed must be in [0, 2^32), got {seed}")
        self._batch_size = batch_size
        self._read = functools.partial(
            _read, source, transform, rows
        )  # no reference to self: threads end with their iterator
        self._source, self._order = source, _order(source, seed, batch_size)
        self._options = grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=max(prefetch, threads) if threads else 0
        )
        self._next_index = start_step * batch_size
        self._iterator: grain.DatasetIterator | None = None

    def __next__(self) -> Any:
        if self._iterator is None:
            batches = self._order[self._next_index // self._batch_size :].map(self._read)
            self._iterator = iter(batches.to_iter_dataset(self._options))
        try:
            batch = next(self._iterator)
        except BaseException:  # the next call reads this batch again instead of skipping it
            self.close()
            raise
        self._next_index += self._batch_size
        return batch

    def epochs(self) -> dict[str, float]:
        """The number of epochs of the source, or of each part of a mixture."""
        if isinstance(self._source, Mixture):
            return self._source.epochs(self._next_index)
        return {"epoch": self._next_index / len(self._source)}

    def get_state(self) -> dict[str, int]:
        """The state; equal on all hosts."""
        return {"next_index": self._next_index}

    def set_state(self, state: dict[str, int]) -> None:
        """Continues after the batches that `state` counts. Raises ConfigError if it is from another batch size."""
        self.close()
        steps, rest = divmod(int(state["next_index"]), self._batch_size)
        if rest:
            raise ConfigError(
                f"the state is from another batch size: {state['next_index']} is not a multiple of {self._batch_size}"
            )
        self._next_index = steps * self._batch_size

    def close(self) -> None:
        """Stops the data threads. The next batch starts them again."""
        if self._iterator is not None:
            self._iterator.close()
        self._iterator = None


def _order(source: Source, seed: int, batch_size: int) -> grain.MapDataset:
    """The indices of batch 0, 1, …, endless."""
    if isinstance(source, Mixture):
        return source.order(seed, batch_size)
    return grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat().batch(batch_size)


def _read(source: Source, transform: Callable[[Any], Any] | None, rows: np.ndarray | None, indices: Any) -> Any:
    batch = read_batch(source, indices if rows is None else indices[rows])
    return batch if transform is None else transform_rows(transform, batch)


def in_order(
    source: Source,
    batch_size: int,
    transform: Callable[[Any], Any] | None = None,
    numbers: Iterable[int] | None = None,
    threads: int = 0,
) -> Iterator[Any]:
    """Every sample once, in order, in stacked batches.

    Args:
      source: samples by index. Batches of a mixture come from one part each, round-robin over the parts.
      batch_size: samples per batch; the last batch (of each part) may be smaller.
      transform: applied to every batch; see `transform_rows`.
      numbers: the numbers of the batches to read; None for all.
      threads: number of batches to read ahead; 0 reads in the caller's thread.
    """
    if isinstance(source, Mixture):
        chunks = list(source.chunks(batch_size))
    else:
        starts = range(0, len(source), batch_size)
        chunks = [range(start, min(start + batch_size, len(source))) for start in starts]
    selected = chunks if numbers is None else [chunks[number] for number in numbers]
    batches = grain.MapDataset.source(selected).map(functools.partial(_read, source, transform, None))
    if not selected or not threads:
        yield from map(batches.__getitem__, range(len(selected)))
        return
    iterator = iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)))
    try:
        yield from iterator
    finally:
        iterator.close()
