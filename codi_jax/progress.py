"""Progress of long work: the callback that functions take, one that prints lines on stderr, and regular calls."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol


class ProgressFn(Protocol):
    """Progress callback, called when an activity starts and, if it has steps, after every one of them.

    When it is called, everything before has ended: on a device, too.
    """

    def __call__(self, activity: str, done: int = 0, total: int = 0, /) -> None: ...


def duration(seconds: float) -> str:
    """As 42s, 3m07s or 2h05m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


@contextlib.contextmanager
def calling_every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` in a background thread every `seconds` seconds during the block."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(seconds):
            act()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class ProgressLines:
    """A `ProgressFn` that prints a line for every activity, and at most one a second for its steps.

    A line holds the seconds since the callback was made, the activity, the steps done and the time left. The first step
    compiles, so the rate is that of the steps after it.
    """

    def __init__(self) -> None:
        self._begun = self._printed = time.perf_counter()
        self._first: tuple[float, int] | None = None

    def __call__(self, activity: str, done: int = 0, total: int = 0, /) -> None:
        now, left = time.perf_counter(), ""
        if not done or (self._first is not None and done < self._first[1]):
            self._first = None
        if total and done:
            if self._first is not None and done > self._first[1]:
                left = f", {duration((now - self._first[0]) / (done - self._first[1]) * (total - done))} left"
            self._first = self._first or (now, done)
        if not done or now - self._printed >= 1:
            self._printed = now
            steps = f" {done}/{total}{left}" if total else ""
            print(f"{duration(now - self._begun):>6}  {activity}{steps}", file=sys.stderr, flush=True)
