"""Seconds of a stage by activity, over all its sessions: stages/NAME/cost.json.

    {activity: seconds, …, "total": seconds, "lost_steps": n, "reached": step, "core_seconds": seconds,
     "sessions": [[begin, end], …]}

Activities add up to "total", the wall time of the stage. Stages may run in parallel, so the wall time of the training
is not the sum of their totals. "sessions" (seconds since 1970) are the intervals in which the stage ran:

    wall time of the training = length of the union of the sessions of all stages

which counts parallel stages once and excludes the time between an interruption and the next session. "core_seconds" is
the processor time of all threads of the stage's process (of process 0, if there are several).

The file is updated every two seconds (in an object store every minute), so that a session that is killed leaves its
seconds but the last two. "reached" is the number of steps that were done then. Steps after the last checkpoint of an
interrupted session are lost: the next session takes them again. Their seconds count, the steps do not:

    goodput = (seconds in steps) / total · steps / (steps + lost_steps)
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codi_jax import storage
from codi_jax.parallel import distributed
from codi_jax.progress import calling_every, duration
from codi_jax.train.metrics import Clock

COUNTS = ("total", "lost_steps", "reached", "core_seconds", "sessions")  # keys that are no activities


class Ledger:
    """Updates the cost.json of a stage with this session. Only process 0 writes.

    Attributes:
      clock: the clock of the session.
      reached: number of steps that are done, those of earlier sessions included.
      lost_steps: steps of an interrupted session that this one takes again.
    """

    def __init__(self, path: Path, clock: Clock):
        self._path, self.clock = path, clock
        self._start, self._cores, self._date = time.perf_counter(), time.process_time(), time.time()
        self._before: dict[str, Any] = read_cost(path) if path.exists() else {}
        self._writing = threading.Lock()
        self.reached, self.lost_steps = self._before.get("reached", 0), 0

    def resume(self, step: int, logged: int) -> None:
        """Counts the steps that the last session took after the checkpoint of `step`.

        Args:
          step: number of steps of the checkpoint that is resumed; 0 if there is none.
          logged: number of steps in the metrics of the last session.
        """
        self.lost_steps = max(self.reached, logged) - step
        self.reached = step

    def cost(self) -> dict[str, Any]:
        """The contents of cost.json: all earlier sessions and this one until now."""
        spent, total = self.clock.spent(), time.perf_counter() - self._start
        other = max(total - sum(spent.values()), 0.0)
        session = {**spent, "other": other, "total": total, "lost_steps": self.lost_steps}
        if not self._before or "sessions" in self._before:  # sessions of files without them stay unknown
            session["core_seconds"] = time.process_time() - self._cores
            sessions = [*self._before.get("sessions", ()), [round(self._date, 3), round(self._date + total, 3)]]
        else:
            sessions = None
        cost = {
            **self._before,
            "reached": self.reached,
            **{k: round(self._before.get(k, 0) + spent, 3) for k, spent in session.items()},
        }
        return cost if sessions is None else {**cost, "sessions": sessions}

    def write(self) -> None:
        """Writes cost.json."""
        if distributed.is_primary():
            with self._writing:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                storage.write_text(self._path, json.dumps(self.cost(), indent=1) + "\n")

    @contextlib.contextmanager
    def updating(self) -> Iterator[None]:
        """Writes cost.json regularly during the block, and at its end.

        A regular write that fails, such as on a full disk, is left to the next one.
        """

        def update() -> None:
            with contextlib.suppress(Exception):
                self.write()

        every = 60.0 if storage.is_remote(self._path) else 2.0
        with calling_every(every, update) if distributed.is_primary() else contextlib.nullcontext():
            try:
                yield
            finally:
                self.write()


def wall_seconds(costs: Iterable[Mapping[str, Any]]) -> float | None:
    """Wall time of stages, in seconds (see the module); None if one of them has no "sessions"."""
    costs = list(costs)
    if not costs or not all("sessions" in cost for cost in costs):
        return None
    spent, last = 0.0, 0.0
    for begin, end in sorted(session for cost in costs for session in cost["sessions"]):
        spent += max(end - max(begin, last), 0.0)
        last = max(last, end)
    return spent


def core_seconds(costs: Iterable[Mapping[str, Any]]) -> float | None:
    """Processor time of stages, in seconds; None if one of them has no "core_seconds"."""
    costs = list(costs)
    if not costs or not all("core_seconds" in cost for cost in costs):
        return None
    return sum(cost["core_seconds"] for cost in costs)


def goodput(cost: Mapping[str, Any], steps: int) -> float:
    """Goodput of a stage of `steps` steps, a fraction (see the module)."""
    counted = steps / (steps + cost.get("lost_steps", 0))
    return counted * cost.get("step", 0.0) / cost["total"] if cost.get("total") else 0.0


def line(name: str, cost: Mapping[str, Any], steps: int) -> str:
    """One line for the terminal: goodput, then the activities, longest first."""
    spent = sorted((s, a) for a, s in cost.items() if a not in COUNTS)
    parts = [f"{activity} {duration(seconds)}" for seconds, activity in reversed(spent) if seconds >= 0.5]
    lost = f"  {cost['lost_steps']:g} steps lost" if cost.get("lost_steps") else ""
    return f"{name}  goodput {goodput(cost, steps):.0%} of {duration(cost['total'])}: {', '.join(parts)}{lost}"


def read_cost(path: Path) -> dict[str, Any]:
    """The contents of a cost.json. Raises ConfigError if it is damaged."""
    return storage.read_json(path, "; delete it, with which only the times of this stage are lost")


def stage_costs(workdir: Path) -> dict[str, dict[str, Any]]:
    """The contents of cost.json of every stage of a workdir, by the name of the stage."""
    return {path.parent.name: read_cost(path) for path in sorted(workdir.glob("stages/*/cost.json"))}
