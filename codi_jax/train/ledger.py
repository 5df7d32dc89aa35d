"""Where the seconds of a stage went, over all the sessions that it took: stages/NAME/cost.json.

    {activity: seconds, …, "total": seconds, "lost_steps": n}

It is brought up to date at every checkpoint, so that a session which is killed leaves what it took until its last one.
Steps are lost when a session goes on from a checkpoint that is older than where the one before it was.

    goodput = seconds of the steps that count / seconds in all,    those that count: steps / (steps + lost)
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from codi_jax import storage
from codi_jax.parallel import distributed
from codi_jax.train.metrics import Clock, duration

COUNTS = ("total", "lost_steps")  # what is no activity


class Ledger:
    """The cost.json of a stage in this session. Only process 0 writes.

    Attributes:
      clock: of the session.
      lost_steps: that it takes again.
    """

    def __init__(self, path: Path, clock: Clock):
        self._path, self.clock, self._begun = path, clock, time.perf_counter()
        self._before: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        self.lost_steps = 0

    def cost(self) -> dict[str, float]:
        """All sessions until now."""
        total = time.perf_counter() - self._begun
        other = max(total - sum(self.clock.seconds.values()), 0.0)
        here = {**self.clock.seconds, "other": other, "total": total, "lost_steps": self.lost_steps}
        return {**self._before, **{k: round(self._before.get(k, 0) + spent, 3) for k, spent in here.items()}}

    def write(self) -> None:
        """Writes them."""
        if distributed.first():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            storage.write_text(self._path, json.dumps(self.cost(), indent=1) + "\n")


def goodput(cost: Mapping[str, float], steps: int) -> float:
    """The part of the seconds in which steps were taken that count, of a stage of so many steps."""
    counted = steps / (steps + cost.get("lost_steps", 0))
    return counted * cost.get("step", 0.0) / cost["total"] if cost.get("total") else 0.0


def line(name: str, cost: Mapping[str, float], steps: int) -> str:
    """One line for the terminal: goodput, then the activities by what they took."""
    spent = sorted((s, a) for a, s in cost.items() if a not in COUNTS)
    parts = [f"{activity} {duration(seconds)}" for seconds, activity in reversed(spent) if seconds >= 0.5]
    lost = f"  {cost['lost_steps']:g} steps lost" if cost.get("lost_steps") else ""
    return f"{name}  goodput {goodput(cost, steps):.0%} of {duration(cost['total'])}: {', '.join(parts)}{lost}"
