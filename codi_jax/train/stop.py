"""Stopping on SIGTERM, all processes of a run after the same step.

A single process stops at the next sync point. With several processes the signal may reach only some of them, or all at
different steps. jax forwards the notice in the background: the processes exchange how many sync points each has passed,
and all stop at the one after the furthest. So every process must pass the same sync points in the same order. Until a
signal comes, passing one costs no message and no wait for a device.
"""

import itertools
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from jax.experimental import multihost_utils

from codi_jax.parallel import distributed


class Preempted(Exception):
    """The run stopped on SIGTERM after saving; the same command resumes it."""


_SYNC_POINTS = itertools.count()  # counted over the life of the process: jax has one preemption notice per process


class Stop:
    """Tells whether SIGTERM has come, to all processes of a run after the same step."""

    def __init__(self) -> None:
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Handles SIGTERM inside the block; with several processes jax already does."""
        if distributed.is_multiprocess():
            yield self
            return

        def ask(*_: object) -> None:
            self._asked = True

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    def here(self) -> bool:
        """Passes a sync point; returns whether the run must stop there. Once True, it stays True."""
        if distributed.is_multiprocess() and not self._asked:
            self._asked = multihost_utils.reached_preemption_sync_point(next(_SYNC_POINTS))
        return self._asked
