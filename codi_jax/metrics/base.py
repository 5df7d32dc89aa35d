"""The protocol of metrics: batches are folded into a state, states are merged, and a state gives the numbers.

    state = metric.init()
    for batch in batches:
        state = metric.update(state, batch)
    numbers = metric.compute(merge_processes(metric, state))     # of the batches of all processes

A state is a pytree of NumPy arrays. Its size does not depend on the number of samples, except where a metric says that
it has to keep them (`captions.cider`, `retrieval`). `merge` must be associative, and `init()` its neutral element; then
the numbers do not depend on how the samples were split.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Protocol, TypeVar

from codi_jax.parallel import distributed

State = TypeVar("State")
Batch = TypeVar("Batch", contravariant=True)


class Metric(Protocol[State, Batch]):
    """A metric of batches of one type."""

    def init(self) -> State:
        """The state of no samples."""
        ...

    def update(self, state: State, batch: Batch) -> State:
        """The state with the samples of a further batch.

        Raises:
          ValueError: the batch has the wrong shape.
        """
        ...

    def merge(self, a: State, b: State) -> State:
        """The state of the samples of both."""
        ...

    def compute(self, state: State) -> Mapping[str, float]:
        """The numbers by name.

        Raises:
          ValueError: the state has too few samples.
        """
        ...


def compute(metric: Metric[State, Batch], batches: Iterable[Batch]) -> Mapping[str, float]:
    """The numbers of the batches of this process."""
    return metric.compute(reduce(metric.update, batches, metric.init()))


def merge_processes(metric: Metric[State, Batch], state: State) -> State:
    """The state of the samples of all processes, the same on each; every process must call it."""
    return reduce(metric.merge, distributed.gather(state))
