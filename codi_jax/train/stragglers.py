"""Hosts that hold up the others of a run.

In a step all processes wait for the slowest, so their times of a step are equal. What differs is the time that a host
takes for itself before it starts a step: waiting for its input and copying it to the devices. The processes tell one
another this time with their heartbeats (`parallel.peers`), at no cost for the step.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

from codi_jax.parallel import distributed, peers
from codi_jax.parallel.peers import Peers
from codi_jax.types import Array

TIMES = 5.0  # a straggler takes so many times the median of all hosts,
FRACTION = 0.1  # and at least this fraction of the time of a step


class Stragglers:
    """A callback that measures the own time of this host and, on process 0, names the hosts that hold up the others.

    Args:
      log_every: steps between messages of a host that has changed.
      known: the processes of the run; by default those of this one.
      clock: seconds.
    """

    def __init__(
        self,
        log_every: int,
        known: Callable[[], Peers | None] = peers.known,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._every, self._known, self._clock = log_every, known, clock
        self._own, self._steps, self._since = 0.0, 0, clock()
        self._named: set[int] = set()

    @contextlib.contextmanager
    def own_time(self) -> Iterator[None]:
        """Measures the block, in which this host prepares a step."""
        start = self._clock()
        yield
        self._own += self._clock() - start

    def __call__(self, done: int, metrics: dict[str, Array]) -> None:
        """Tells the other hosts the time of this one, every `log_every` steps; process 0 prints the slow ones once."""
        self._steps += 1
        if done % self._every or (known := self._known()) is None:
            return
        now = self._clock()
        known.own_seconds, step = self._own / self._steps, (now - self._since) / self._steps
        self._own, self._steps, self._since = 0.0, 0, now
        slow = stragglers(known.seconds_of, step)
        if distributed.is_primary():
            for process in slow.keys() - self._named:
                line = f"{known.name(process)} holds up the others: {slow[process]:.2g} s a step for its input"
                print(f"{line}, {slow[process] / step:.0%} of the step", flush=True)
        self._named = set(slow)


def stragglers(seconds: dict[int, float], step: float) -> dict[int, float]:
    """The processes that hold up the others, with their own seconds of a step.

    Args:
      seconds: of each process, before it starts a step.
      step: seconds of a step.
    """
    if len(seconds) < 2:
        return {}
    limit = max(TIMES * statistics.median_low(seconds.values()), FRACTION * step)
    return {process: own for process, own in seconds.items() if own > limit}
