"""What a source is: samples by index.

A sample is a nested dict of arrays, numbers and strings. Reading it by index must give the same every time, for this is
all that a resumed or resharded run relies on. A source that reads many samples faster together than one by one also
has `read(indices)`, which gives them stacked; of one that says `parallel = True`, because its samples take their time
outside of Python, as many are read at once as there are cores.
"""

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import jax
import numpy as np


class Source(Protocol):
    """Random access to samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


def available_cores() -> int:
    """Of this machine, as many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores(), "read")


def read_batch(source: Source, indices: Sequence[int] | np.ndarray) -> Any:
    """Samples `indices` of a source, stacked leaf by leaf along a new first axis."""
    if hasattr(source, "read"):
        return source.read(indices)
    each = _pool().map if getattr(source, "parallel", False) else map
    samples = list(each(source.__getitem__, map(int, indices)))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
