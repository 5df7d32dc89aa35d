"""Batches of a source by grain, which stop and resume at any step on any number of hosts.

    row r of global batch s  =  source[ order( s·B + r ) ],      order: a fresh permutation of the source every epoch

Host k of n reads rows k·B/n ... (k+1)·B/n of every batch, so the batch that the hosts put together holds the same
samples *in the same rows* for any n, and noise drawn by row is the same too. (grain's ElasticIterator deals rows out in
turn: the same set, but its order would depend on n.) Batch boundaries know no epochs, and the state is one number.
Only indices are shuffled and batched; a source that reads many samples at once then does so.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import grain

from codi_jax.config import ConfigError
from codi_jax.data.sources import Source, read


class Batches(Iterator[Any]):
    """An endless, checkpointable iterator of this host's rows of every global batch.

    Its state is {"next_index": s·B}, alike on all hosts: what was prefetched but not handed out does not count.

    Args:
      source: samples by index.
      batch_size: B, rows of the global batch; a multiple of the number of hosts.
      seed: of the order, in [0, 2^32).
      start_step: the first step to give.
      transform: from a stacked batch (this host's rows) to what the training step takes. It runs in the reading threads
        and must depend on the batch alone.
      host: (index of this host, number of hosts).
      threads: how many batches are read at a time; with 0 they are read in the caller's thread.
      prefetch: how many batches wait ready.

    Raises:
      ConfigError: an empty source, a batch that the hosts cannot share evenly, or a seed out of range.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int,
        *,
        start_step: int = 0,
        transform: Callable[[Any], Any] | None = None,
        host: tuple[int, int] = (0, 1),
        threads: int = 2,
        prefetch: int = 4,
    ):
        self._host, self._hosts = host
        if not len(source):
            raise ConfigError("a data set without samples cannot be trained on")
        if batch_size < 1 or batch_size % self._hosts:
            raise ConfigError(f"a batch of {batch_size} cannot be shared evenly by {self._hosts} hosts")
        if not 0 <= seed < 2**32:
            raise ConfigError(f"a data seed lies in [0, 2^32), got {seed}")
        self._batch_size = batch_size
        self._read = functools.partial(
            _read, source, transform
        )  # no reference to self: threads end with their iterator
        self._order = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
        self._options = grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=max(prefetch, threads) if threads else 0
        )
        self._next_index = start_step * batch_size
        self._iterator: Iterator[Any] | None = None

    def __next__(self) -> Any:
        if self._iterator is None:
            rows = self._order[self._next_index :].batch(self._batch_size // self._hosts)
            mine = rows[self._host :: self._hosts].map(self._read)
            self._iterator = iter(mine.to_iter_dataset(self._options))
        try:
            batch = next(self._iterator)
        except BaseException:  # the next call reads this batch again instead of passing over it
            self.close()
            raise
        self._next_index += self._batch_size
        return batch

    def get_state(self) -> dict[str, int]:
        return {"next_index": self._next_index}

    def set_state(self, state: dict[str, int]) -> None:
        self.close()
        self._next_index = int(state["next_index"])

    def close(self) -> None:
        """Ends the reading threads; the next batch starts them again."""
        if self._iterator is not None:
            self._iterator.close()
        self._iterator = None


def _read(source: Source, transform: Callable[[Any], Any] | None, indices: Any) -> Any:
    batch = read(source, indices)
    return batch if transform is None else transform(batch)


def in_order(source: Source, batch_size: int, transform: Callable[[Any], Any] | None = None) -> Iterator[Any]:
    """Every sample once, in order, in stacked batches; the last may be shorter."""
    for start in range(0, len(source), batch_size):
        yield _read(source, transform, range(start, min(start + batch_size, len(source))))
