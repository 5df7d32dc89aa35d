"""Stopping on SIGTERM, all processes of a run after the same step.

One process stops at the first place where it may. Of several, the signal may reach only some, or all at slightly other
steps. jax passes the notice on, in the background: the processes tell one another how many of the places where a run
may stop they have passed, and the next one of the furthest is where all of them do. So every process has to pass the
same places in the same order, and until a signal comes, passing one costs no message and no wait for a device.
"""

import itertools
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jax.experimental import multihost_utils

from codi_jax.parallel import distributed


class Preempted(Exception):
    """The run was asked to stop (SIGTERM) and has saved; run the same command again."""


_PLACES = itertools.count()  # of this process' whole life: jax knows one stop


class Stop:
    """Whether the run has been asked to stop."""

    def __init__(self) -> None:
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        if distributed.is_multiprocess():  # jax listens, from its start on
            yield self
            return

        def ask(*_: Any) -> None:
            self._asked = True

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    def here(self) -> bool:
        """Passes a place where the run may stop; whether it has to. Once it has, it has at every later one."""
        if distributed.is_multiprocess() and not self._asked:
            self._asked = multihost_utils.reached_preemption_sync_point(next(_PLACES))
        return self._asked
