"""Progress of a whole recipe: the number of the running stage, the fraction of the work done, and the time left.

With c_s the `scheduling_weight` of stage s and d_s its seconds, measured or estimated,

    running       d_s = (seconds until its first step was done) + (steps) · (seconds per step since then)
    scale         a = Σ d_s / Σ c_s     over stages that are finished or of which steps have been timed
    not started   d_s = a · c_s

The time left is that of the schedule by which the stages are run: a free worker starts the ready stage with the longest
path to the end (`critical_path`). The fraction done is Σ c_s · (fraction of s done) / Σ c_s.
"""

import heapq
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TextIO

from codi_jax.progress import duration
from codi_jax.train.ledger import read_cost
from codi_jax.train.recipe import Run


def critical_path(run: Run) -> dict[str, float]:
    """Stage -> the largest sum of `scheduling_weight` along a path from it to the end, its own included."""
    after = dict.fromkeys(run.order, 0.0)  # of a stage: the longest path that starts at a stage depending on it
    total = {}
    for name in reversed(run.order):
        total[name] = run.stage(name).scheduling_weight + after[name]
        for need in run.stage(name).depends_on:
            after[need] = max(after[need], total[name])
    return total


def schedule_length(
    running: Mapping[str, float],
    waiting: Mapping[str, float],
    depends_on: Mapping[str, Iterable[str]],
    priority: Mapping[str, float],
    workers: int,
) -> float:
    """Seconds until all stages are done.

    Args:
      running: stage -> its seconds left; at most `workers` stages.
      waiting: stage that has not started -> its seconds.
      depends_on: stage -> stages that have to finish first; those neither running nor waiting are done.
      priority: stage -> its priority; the largest starts first.
      workers: number of stages that run in parallel.
    """
    busy = [(seconds, name) for name, seconds in running.items()]
    heapq.heapify(busy)
    unfinished, queue, now = {*running, *waiting}, sorted(waiting, key=lambda name: -priority[name]), 0.0
    while busy or queue:
        for name in [name for name in queue if unfinished.isdisjoint(depends_on[name])][: workers - len(busy)]:
            heapq.heappush(busy, (now + waiting[name], name))
            queue.remove(name)
        now, name = heapq.heappop(busy)
        unfinished.remove(name)
    return now


class Overall:
    """The progress of all stages of one call of `train`.

    Args:
      run: the run; its workdir says which stages are finished.
      stages: the stages of this call, including finished ones.
      workers: number of stages that run in parallel.
      every: seconds between printed lines.
      clock: returns seconds, from any origin.
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
        self._weight = {name: run.stage(name).scheduling_weight for name in self._stages}
        self._seconds: dict[str, float] = {}  # of finished stages that have been timed
        self._done: set[str] = set()
        self._started: dict[str, float] = {}  # running stage -> when it started in this session
        self._steps: dict[str, tuple[float, int, float, int, int]] = {}  # first (time, done), last (time, done), total
        self._printed = clock()
        for name in self._stages:
            if run.complete(name):
                self._finished(name)

    def _finished(self, name: str) -> None:
        self._done.add(name)
        path = self._run.directory(name) / "cost.json"
        spent = read_cost(path).get("total", 0.0) if path.exists() else 0.0
        if spent:
            self._seconds[name] = spent

    def begin(self, name: str) -> None:
        """Called when a stage starts or resumes."""
        self._started[name] = self._clock()

    def end(self, name: str) -> None:
        """Called when a stage has stopped, finished or not."""
        self._started.pop(name, None)
        self._steps.pop(name, None)
        if self._run.complete(name):
            self._finished(name)

    def __call__(self, name: str, done: int, total: int) -> None:
        """Called when `done` of `total` steps of a stage are done, including those of earlier sessions."""
        now = self._clock()
        first = self._steps.get(name, (now, done))[:2]
        self._steps[name] = (*first, now, done, total)

    def _timed(self, name: str) -> tuple[float, float] | None:
        """(total seconds, seconds left) of a running stage; None until two steps have been timed."""
        if name not in self._steps:
            return None
        t0, s0, t1, s1, steps = self._steps[name]
        if s1 <= s0 or t1 <= t0:
            return None
        step = (t1 - t0) / (s1 - s0)
        left = step * (steps - s1) - (self._clock() - t1)
        return t0 - self._started[name] + step * steps, max(left, 0.0)

    def left(self) -> float | None:
        """Seconds until all stages are done; None until some stage has been timed."""
        timed = {name: seconds for name in self._started if (seconds := self._timed(name))}
        known = self._seconds | {name: total for name, (total, _) in timed.items()}
        cost = sum(self._weight[name] for name in known)
        if not cost:
            return None
        scale, now = sum(known.values()) / cost, self._clock()
        running = {
            name: timed[name][1] if name in timed else max(scale * self._weight[name] - (now - start), 0.0)
            for name, start in self._started.items()
        }
        waiting = {n: scale * self._weight[n] for n in self._stages if n not in self._done and n not in running}
        depends_on = {name: self._run.stage(name).depends_on for name in waiting}
        return schedule_length(running, waiting, depends_on, self._priority, self._workers)

    def part(self) -> float:
        """The fraction of the work that is done, weighted by `scheduling_weight`."""
        parts = {name: s1 / steps for name, (_, _, _, s1, steps) in self._steps.items()} | dict.fromkeys(
            self._done, 1.0
        )
        total = sum(self._weight.values())
        return sum(self._weight[name] * part for name, part in parts.items()) / total if total else 1.0

    def line(self) -> str:
        """A summary such as `stages 8 and 9 of 24  31% done  6m10s left`."""
        numbers = [str(k) for k in range(len(self._done) + 1, len(self._done) + 1 + len(self._started))]
        total, left = len(self._stages), self.left()
        which = f"stage{'s' * (len(numbers) > 1)} {' and '.join(numbers)} of {total}"
        if not numbers:
            which = f"{len(self._done)} of {total} stages"
        parts = [which, f"{self.part():.0%} done", *([] if left is None else [f"{duration(left)} left"])]
        return "  ".join(parts)

    def due(self) -> bool:
        """Whether the next line should be printed."""
        return self._clock() - self._printed >= self._every

    def print(self, stream: TextIO | None = None) -> None:
        """Prints the line, to stdout if `stream` is None."""
        self._printed = self._clock()
        print(f"all  {self.line()}", file=stream, flush=True)
