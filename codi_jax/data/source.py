"""The protocol of data sources: random access to samples by index.

A sample is a nested dict of arrays, numbers and strings. The same index must always give the same sample: resuming and
resharding a run rely on this. A source has two ways to speed up `read_batch`, both optional:

    read(indices)      a method that returns a stacked batch; `read_batch` calls it instead of `__getitem__`
    parallel = True    an attribute, for samples that are decoded outside of Python; `read_batch` then decodes them on a
                       thread pool, one worker per core
"""

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np


class Source(Protocol):
    """Random access to samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@runtime_checkable
class BatchReader(Protocol):
    """The optional method of a source that reads a batch."""

    def read(self, indices: Sequence[int] | np.ndarray) -> Any: ...


def available_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores(), "read")


def read_batch(source: Source, indices: Sequence[int] | np.ndarray) -> Any:
    """Reads the samples `indices` and stacks them leaf by leaf along a new first axis."""
    if isinstance(source, BatchReader):
        return source.read(indices)
    map_fn = _pool().map if getattr(source, "parallel", False) else map
    samples = list(map_fn(source.__getitem__, map(int, indices)))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
