"""Progress of a generation as lines on stderr."""

import sys
import time

from codi_jax.train.metrics import duration


class ProgressLines:
    """Progress callback (see `generate.Told`): a line for every activity, and one a second for its steps.

    A line holds the seconds since the first, what is being done and, of steps, how many are done and how long the
    others will take. The first step compiles, so the rate is that of those after it.
    """

    def __init__(self) -> None:
        self._begun = self._printed = time.perf_counter()
        self._first: tuple[float, int] | None = None

    def __call__(self, what: str, done: int = 0, of: int = 0) -> None:
        now, left = time.perf_counter(), ""
        if not done:
            self._first = None
        if of and done:
            if self._first is not None:
                left = f", {duration((now - self._first[0]) / (done - self._first[1]) * (of - done))} left"
            self._first = self._first or (now, done)
        if not done or now - self._printed >= 1:
            self._printed = now
            steps = f" {done}/{of}{left}" if of else ""
            print(f"{duration(now - self._begun):>6}  {what}{steps}", file=sys.stderr, flush=True)
