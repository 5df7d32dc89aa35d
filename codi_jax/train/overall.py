"""Progress of a whole recipe: which stage of how many, how much of the work is done, how long the rest will take.

With c_s the configured cost of stage s, in a unit that all stages share, and d_s its seconds, measured or foreseen,

    running     d_s = (s's seconds until its first step was done) + (steps) · (seconds a step, since then)
    scale       a = Σ d_s / Σ c_s     over stages that are finished or of which steps have been timed
    not begun   d_s = a · c_s

The time left is that of the schedule by which the stages are run: a free worker starts the ready stage with the longest
path to the end (`critical_path`). The fraction done is Σ c_s · (fraction of s done) / Σ c_s.
"""

import heapq
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TextIO

from codi_jax.progress import duration
from codi_jax.train.recipe import Run


def critical_path(run: Run) -> dict[str, float]:
    """Stage -> the largest sum of `scheduling_weight` along a path from it to the end, its own included."""
    behind = dict.fromkeys(run.order, 0.0)
    total = {}
    for name in reversed(run.order):
        total[name] = run.stage(name).scheduling_weight + behind[name]
        for need in run.stage(name).depends_on:
            behind[need] = max(behind[need], total[name])
    return total


def schedule_length(
    running: Mapping[str, float],
    waiting: Mapping[str, float],
    needs: Mapping[str, Iterable[str]],
    priority: Mapping[str, float],
    workers: int,
) -> float:
    """Seconds until all stages are done.

    Args:
      running: stage -> its seconds left; at most `workers` of them.
      waiting: stage that has not begun -> its seconds.
      needs: stage -> stages before it; those neither running nor waiting are done.
      priority: stage -> the larger goes first.
      workers: stages at a time.
    """
    busy = [(seconds, name) for name, seconds in running.items()]
    heapq.heapify(busy)
    undone, left, now = {*running, *waiting}, sorted(waiting, key=lambda name: -priority[name]), 0.0
    while busy or left:
        for name in [name for name in left if undone.isdisjoint(needs[name])][: workers - len(busy)]:
            heapq.heappush(busy, (now + waiting[name], name))
            left.remove(name)
        now, name = heapq.heappop(busy)
        undone.remove(name)
    return now


class Overall:
    """Where all stages of one call of `train` stand.

    Args:
      run: the run; what is finished is read off its workdir.
      stages: those that are to be run, finished ones among them.
      workers: stages at a time.
      every: seconds between lines.
      clock: seconds from any origin.
    """

    def __init__(
        self,
        run: Run,
        stages: Collection[str],
        workers: int = 1,
        every: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._run, self._stages, self._workers = run, tuple(n for n in run.order if n in stages), workers
        self._every, self._clock, self._priority = every, clock, critical_path(run)
        self._cost = {name: run.stage(name).scheduling_weight for name in self._stages}
        self._seconds: dict[str, float] = {}  # of finished stages that have been timed
        self._done: set[str] = set()
        self._begun: dict[str, float] = {}  # stage that runs -> when it began here
        self._steps: dict[str, tuple[float, int, float, int, int]] = {}  # first (time, done), last (time, done), of
        self._printed = clock()
        for name in self._stages:
            if run.finished(name):
                self._finished(name)

    def _finished(self, name: str) -> None:
        self._done.add(name)
        path = self._run.directory(name) / "cost.json"
        spent = json.loads(path.read_text()).get("total", 0.0) if path.exists() else 0.0
        if spent:
            self._seconds[name] = spent

    def begin(self, name: str) -> None:
        """A stage begins, or goes on."""
        self._begun[name] = self._clock()

    def end(self, name: str) -> None:
        """A stage has stopped, finished or not."""
        self._begun.pop(name, None)
        self._steps.pop(name, None)
        if self._run.finished(name):
            self._finished(name)

    def __call__(self, name: str, done: int, of: int) -> None:
        """So many steps of a stage are done, those of earlier calls of `train` included."""
        now = self._clock()
        first = self._steps.get(name, (now, done))[:2]
        self._steps[name] = (*first, now, done, of)

    def _timed(self, name: str) -> tuple[float, float] | None:
        """(seconds in all, seconds left) of a running stage, once there are two times to tell its rate by."""
        if name not in self._steps:
            return None
        t0, s0, t1, s1, of = self._steps[name]
        if s1 <= s0 or t1 <= t0:
            return None
        step = (t1 - t0) / (s1 - s0)
        left = step * (of - s1) - (self._clock() - t1)
        return t0 - self._begun[name] + step * of, max(left, 0.0)

    def left(self) -> float | None:
        """Seconds until all stages are done; None as long as nothing has been timed."""
        timed = {name: found for name in self._begun if (found := self._timed(name))}
        known = self._seconds | {name: total for name, (total, _) in timed.items()}
        cost = sum(self._cost[name] for name in known)
        if not cost:
            return None
        scale, now = sum(known.values()) / cost, self._clock()
        running = {
            name: timed[name][1] if name in timed else max(scale * self._cost[name] - (now - begun), 0.0)
            for name, begun in self._begun.items()
        }
        waiting = {n: scale * self._cost[n] for n in self._stages if n not in self._done and n not in running}
        needs = {name: self._run.stage(name).depends_on for name in waiting}
        return schedule_length(running, waiting, needs, self._priority, self._workers)

    def part(self) -> float:
        """The part of the work that is done, by cost."""
        parts = {name: s1 / of for name, (_, _, _, s1, of) in self._steps.items()} | dict.fromkeys(self._done, 1.0)
        total = sum(self._cost.values())
        return sum(self._cost[name] * part for name, part in parts.items()) / total if total else 1.0

    def line(self) -> str:
        """As `stages 8 and 9 of 24  31% done  6m10s left`."""
        numbers = [str(k) for k in range(len(self._done) + 1, len(self._done) + 1 + len(self._begun))]
        total, left = len(self._stages), self.left()
        which = f"stage{'s' * (len(numbers) > 1)} {' and '.join(numbers)} of {total}"
        if not numbers:
            which = f"{len(self._done)} of {total} stages"
        parts = [which, f"{self.part():.0%} done", *([] if left is None else [f"{duration(left)} left"])]
        return "  ".join(parts)

    def due(self) -> bool:
        """Whether it is time for another line."""
        return self._clock() - self._printed >= self._every

    def print(self, stream: TextIO | None = None) -> None:
        """Prints the line, to stdout if no stream is given."""
        self._printed = self._clock()
        print(f"all  {self.line()}", file=stream, flush=True)
