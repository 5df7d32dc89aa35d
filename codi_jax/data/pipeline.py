"""Batches of a source by grain, which stop and resume at any step on any number of hosts.

    row r of global batch s  =  source[ order( s·B + r ) ],      order: a fresh permutation of the source every epoch
                                                                 (of each part of a mixture, see data.mixture)

A host reads some rows of every batch, those that its devices hold, so the batch that the hosts put together holds the
same samples *in the same rows* for any number of them, and noise drawn by row is the same too. (grain's ElasticIterator
deals rows out in turn: the same set, but its order would depend on the hosts.) Batch boundaries know no epochs, and the
state is one number. Only indices are shuffled and batched; a source that reads many samples at once then does so.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grain
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data.mixture import Mixture
from codi_jax.data.source import Source, read_batch


class Batches(Iterator[Any]):
    """An endless, checkpointable iterator of this host's rows of every global batch.

    Its state is {"next_index": s·B}, alike on all hosts: what was prefetched but not handed out does not count.

    Args:
      source: samples by index.
      batch_size: B, rows of the global batch.
      seed: of the order, in [0, 2^32).
      start_step: the first step to give.
      transform: from a stacked batch (this host's rows) to what the training step takes. It runs in the reading threads
        and must depend on the batch alone.
      rows: those of the global batch that this host reads, in the order in which it hands them out; all if None.
      threads: how many batches are read at a time; with 0 they are read in the caller's thread.
      prefetch: how many batches wait ready.

    Raises:
      ConfigError: an empty source, a batch without rows, or a seed out of range.
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
            raise ConfigError("a data set without samples cannot be trained on")
        if batch_size < 1:
            raise ConfigError(f"a batch has rows, not {batch_size}")
        if not 0 <= seed < 2**32:
            raise ConfigError(f"a data seed lies in [0, 2^32), got {seed}")
        self._batch_size = batch_size
        self._read = functools.partial(
            _read, source, transform, rows
        )  # no reference to self: threads end with their iterator
        self._source, self._order = source, _order(source, seed, batch_size)
        self._options = grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=max(prefetch, threads) if threads else 0
        )
        self._next_index = start_step * batch_size
        self._iterator: Iterator[Any] | None = None

    def __next__(self) -> Any:
        if self._iterator is None:
            batches = self._order[self._next_index // self._batch_size :].map(self._read)
            self._iterator = iter(batches.to_iter_dataset(self._options))
        try:
            batch = next(self._iterator)
        except BaseException:  # the next call reads this batch again instead of passing over it
            self.close()
            raise
        self._next_index += self._batch_size
        return batch

    def epochs(self) -> dict[str, float]:
        """How often the source has been gone through, or each part of a mixture."""
        if isinstance(self._source, Mixture):
            return self._source.epochs(self._next_index)
        return {"epoch": self._next_index / len(self._source)}

    def get_state(self) -> dict[str, int]:
        return {"next_index": self._next_index}

    def set_state(self, state: dict[str, int]) -> None:
        self.close()
        steps, rest = divmod(int(state["next_index"]), self._batch_size)
        if rest:
            raise ConfigError(f"a state of batches of another size: {state['next_index']} is no multiple of it")
        self._next_index = steps * self._batch_size

    def close(self) -> None:
        """Ends the reading threads; the next batch starts them again."""
        if self._iterator is not None:
            self._iterator.close()
        self._iterator = None


def _order(source: Source, seed: int, batch_size: int) -> grain.MapDataset:
    """The indices of batch 0, 1, … without end."""
    if isinstance(source, Mixture):
        return source.order(seed, batch_size)
    return grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat().batch(batch_size)


def _read(source: Source, transform: Callable[[Any], Any] | None, rows: np.ndarray | None, indices: Any) -> Any:
    batch = read_batch(source, indices if rows is None else indices[rows])
    return batch if transform is None else transform(batch)


def in_order(
    source: Source,
    batch_size: int,
    transform: Callable[[Any], Any] | None = None,
    numbers: Iterable[int] | None = None,
    threads: int = 0,
) -> Iterator[Any]:
    """Every sample once, in order, in stacked batches, the last of which may be shorter.

    Those of a mixture are of one part each, of all of them in turn. With `numbers`, the batches of these numbers alone;
    with `threads`, so many are read ahead.
    """
    if isinstance(source, Mixture):
        chunks = list(source.chunks(batch_size))
    else:
        starts = range(0, len(source), batch_size)
        chunks = [range(start, min(start + batch_size, len(source))) for start in starts]
    chosen = chunks if numbers is None else [chunks[number] for number in numbers]
    batches = grain.MapDataset.source(chosen).map(functools.partial(_read, source, transform, None))
    if not chosen or not threads:
        yield from map(batches.__getitem__, range(len(chosen)))
        return
    iterator = iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)))
    try:
        yield from iterator
    finally:
        iterator.close()
