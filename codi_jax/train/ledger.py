"""Seconds of a stage by activity, over all its sessions: stages/NAME/cost.json.

    {activity: seconds, …, "total": seconds, "lost_steps": n, "core_seconds": seconds, "sessions": [[begin, end], …]}

Activities add up to "total", the wall time of the stage. Stages may run in parallel, so the wall time of the training
is not the sum of their totals. "sessions" (seconds since 1970) are the intervals in which the stage ran:

    wall time of the training = length of the union of the sessions of all stages

which counts parallel stages once and excludes the time between an interruption and the next session. "core_seconds" is
the processor time of all threads of the stage's process (of process 0, if there are several).

The file is updated at every checkpoint, so that a killed session leaves its seconds until its last checkpoint. Steps
after the last checkpoint of an interrupted session are lost: the next session takes them again.

    goodput = (seconds in steps) / total · steps / (steps + lost_steps)
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from codi_jax import storage
from codi_jax.parallel import distributed
from codi_jax.progress import duration
from codi_jax.train.metrics import Clock

COUNTS = ("total", "lost_steps", "core_seconds", "sessions")  # keys that are no activities


class Ledger:
    """Updates the cost.json of a stage with this session. Only process 0 writes.

    Attributes:
      clock: the clock of the session.
      lost_steps: steps of an interrupted session that this one takes again.
    """

    def __init__(self, path: Path, clock: Clock):
        self._path, self.clock = path, clock
        self._start, self._cores, self._date = time.perf_counter(), time.process_time(), time.time()
        self._before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.lost_steps = 0

    def cost(self) -> dict[str, Any]:
        """The contents of cost.json: all earlier sessions and this one until now."""
        total = time.perf_counter() - self._start
        other = max(total - sum(self.clock.seconds.values()), 0.0)
        session = {**self.clock.seconds, "other": other, "total": total, "lost_steps": self.lost_steps}
        if not self._before or "sessions" in self._before:  # sessions of files without them stay unknown
            session["core_seconds"] = time.process_time() - self._cores
            sessions = [*self._before.get("sessions", ()), [round(self._date, 3), round(self._date + total, 3)]]
        else:
            sessions = None
        cost = {**self._before, **{k: round(self._before.get(k, 0) + spent, 3) for k, spent in session.items()}}
        return cost if sessions is None else {**cost, "sessions": sessions}

    def write(self) -> None:
        """Writes cost.json."""
        if distributed.is_primary():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            storage.write_text(self._path, json.dumps(self.cost(), indent=1) + "\n")


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


def stage_costs(workdir: Path) -> dict[str, dict[str, Any]]:
    """The contents of cost.json of every stage of a workdir, by the name of the stage."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(workdir.glob("stages/*/cost.json"))}
