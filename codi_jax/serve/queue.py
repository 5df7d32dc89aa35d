"""A fair queue for one worker: clients take turns, the queue is bounded, and whoever waits knows place and time.

The next job is the oldest of the client whose last turn is the longest ago. A job that nobody asks about any more,
since its page was closed, is dropped.
"""

import collections
import logging
import re
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from codi_jax.config import ConfigError, config_class, first_line

INTERNAL = "an error inside of the program, which its log has"
_MEASURED = 20  # finished jobs from which the speed is known
_PATH = re.compile(r"(?<![\w/.])(?:/[\w.+@ -]*[\w.+@-]){2,}/?")

logger = logging.getLogger("codi_jax.serve")
State = Literal["waiting", "running", "done", "failed", "cancelled"]


class Cancelled(Exception):
    """Raised in the work of a job that is cancelled."""


@config_class()
class QueueLimits:
    """Bounds of a queue.

    Attributes:
      waiting: jobs of all clients that wait.
      of_a_client: jobs of one client that wait or run.
      seconds: of a job, which is then ended.
      abandoned: seconds after which a job that nobody asks about is dropped.
    """

    waiting: int = 200
    of_a_client: int = 2
    seconds: float = 600.0
    abandoned: float = 120.0


class Standing(NamedTuple):
    """Where a job stands: its place (0 while it runs, 1 for the next), and the seconds until it is done, if known."""

    place: int
    seconds: float | None


class Job:
    """A job and how far it is. What the worker writes, others may read at any time.

    Attributes:
      client: whose it is.
      cost: what the work costs, in units of its own; its seconds are estimated from it.
      state: see `State`.
      activity, done, total: of the work, see `ProgressFn`.
      preview: whatever the work shows of itself; None for nothing.
      result: what the work has returned, if it is done.
      error: one line, if it has failed.
    """

    def __init__(self, client: str, work: Callable[["Job"], Any], cost: float, queue: "FairQueue", watched: bool):
        self.client, self.cost, self.watched = client, cost, watched
        self.token = secrets.token_urlsafe(18)
        self.state: State = "waiting"
        self.activity, self.done, self.total = "", 0, 0
        self.preview: Any = None
        self.result: Any = None
        self.error = ""
        self.begun = self.asked = queue.now()
        self.stopping = False
        self._work: Callable[[Job], Any] | None = work
        self._queue = queue

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("done", "failed", "cancelled")

    def report(self, activity: str, done: int = 0, total: int = 0, /) -> None:
        """A `ProgressFn` for the work.

        Raises:
          Cancelled: the job is to end.
          ConfigError: it has taken too long.
        """
        self.activity, self.done, self.total = activity, done, total
        if self.stopping or self._queue.is_abandoned(self):
            raise Cancelled
        if self._queue.now() - self.begun > self._queue.limits.seconds:
            raise ConfigError(f"ended after {self._queue.limits.seconds:g} seconds; ask for fewer steps or samples")

    def run(self) -> None:
        """Does the work; called by the worker."""
        assert self._work is not None
        try:
            self.result = self._work(self)
            self.state = "cancelled" if self.stopping else "done"
        except Cancelled:
            self.state = "cancelled"
        except ConfigError as error:
            self.error, self.state = without_paths(first_line(error)), "failed"
        except Exception:
            logger.exception("a request has failed")
            self.error, self.state = INTERNAL, "failed"
        self.close()

    def close(self) -> None:
        """Releases what the work holds, such as decoded files."""
        self._work, self.preview = None, None


def without_paths(message: str) -> str:
    """The message with paths of this machine left out."""
    return _PATH.sub("(a file here)", message)


class FairQueue:
    """Jobs of clients, and the thread that does them one after the other.

    Args:
      limits: see `QueueLimits`.
      clock: seconds.
      start: whether the thread starts at once; if not, `step` does the next job.
    """

    def __init__(self, limits: QueueLimits, clock: Callable[[], float] = time.monotonic, start: bool = True):
        self.limits, self.now = limits, clock
        self._waiting: collections.OrderedDict[str, collections.deque[Job]] = collections.OrderedDict()
        self._running: Job | None = None
        self._speeds: collections.deque[float] = collections.deque(maxlen=_MEASURED)  # seconds of a unit of cost
        self._ahead: dict[str, tuple[int, float]] | None = None  # token -> place and cost until its end
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="codi-jax-serve")
        if start:
            self._thread.start()

    def submit(self, client: str, work: Callable[[Job], Any], cost: float = 1.0, watched: bool = True) -> Job:
        """Adds a job.

        Args:
          client: whose it is.
          work: called with the job in the thread of the worker.
          cost: see `Job`.
          watched: whether it is dropped if nobody asks about it.

        Raises:
          ConfigError: the queue is full, or holds enough of this client.
        """
        with self._changed:
            self._drop_abandoned()
            own = len(self._waiting.get(client, ())) + (self._running is not None and self._running.client == client)
            if own >= self.limits.of_a_client:
                raise ConfigError(f"you have {own} requests in the queue; wait for one, or cancel it")
            if sum(map(len, self._waiting.values())) >= self.limits.waiting:
                raise ConfigError(f"the queue is full ({self.limits.waiting} requests); try again in a minute")
            job = Job(client, work, cost, self, watched)
            self._waiting.setdefault(client, collections.deque()).append(job)
            self._ahead = None
            self._changed.notify()
            return job

    def find(self, token: str) -> Job | None:
        """The job of a token that waits or runs; None if there is none."""
        with self._changed:
            jobs = [*self._order(), *([] if self._running is None else [self._running])]
            return next((job for job in jobs if job.token == token), None)

    def cancel(self, job: Job) -> None:
        """Ends a job: at once if it waits, at its next report if it runs."""
        with self._changed:
            job.stopping = True
            if job.state == "waiting":
                self._remove(job)

    def standing(self, job: Job) -> Standing:
        """Where a job stands. Asking keeps it in the queue."""
        job.asked = self.now()
        with self._changed:
            left = self._left_of_running()
            if job is self._running:
                return Standing(0, left)
            self._drop_abandoned()
            if self._ahead is None:
                self._ahead, cost = {}, 0.0
                for place, other in enumerate(self._order(), 1):
                    cost += other.cost
                    self._ahead[other.token] = place, cost
            place, cost = self._ahead.get(job.token, (0, 0.0))
            if place == 0:
                return Standing(0, None)  # it has just begun, or ended
            speed = self._speed()
            known = speed is not None and left is not None
            return Standing(place, left + speed * cost if known else None)  # pyright: ignore

    def is_abandoned(self, job: Job) -> bool:
        """Whether nobody has asked about a job for too long."""
        return job.watched and self.now() - job.asked > self.limits.abandoned

    def __len__(self) -> int:
        """Jobs that wait or run."""
        with self._changed:
            return sum(map(len, self._waiting.values())) + (self._running is not None)

    def step(self, wait: bool = False) -> bool:
        """Does the next job; returns whether there was one.

        Args:
          wait: whether to wait for one.
        """
        with self._changed:
            self._drop_abandoned()
            while wait and not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting or self._closed:
                return False
            client, jobs = next(iter(self._waiting.items()))
            job = self._running = jobs.popleft()
            self._waiting.pop(client)
            if jobs:
                self._waiting[client] = jobs  # behind all others
            job.state, job.begun, self._ahead = "running", self.now(), None
        job.run()
        with self._changed:
            if job.state == "done" and job.cost > 0:
                self._speeds.append((self.now() - job.begun) / job.cost)
            self._running, self._ahead = None, None
        return True

    def close(self) -> None:
        """Ends all jobs and the thread."""
        with self._changed:
            self._closed = True
            for job in [*self._order()]:
                self._remove(job)
            if self._running is not None:
                self._running.stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _work(self) -> None:
        while not self._closed:
            self.step(wait=True)

    def _order(self) -> Iterator[Job]:
        """The waiting jobs in the order of their turns."""
        rounds = max(map(len, self._waiting.values()), default=0)
        for k in range(rounds):
            yield from (jobs[k] for jobs in self._waiting.values() if k < len(jobs))

    def _remove(self, job: Job) -> None:
        jobs = self._waiting.get(job.client)
        if jobs and job in jobs:
            jobs.remove(job)
            if not jobs:
                self._waiting.pop(job.client)
        job.state, job.stopping, self._ahead = "cancelled", True, None
        job.close()

    def _drop_abandoned(self) -> None:
        for job in [job for jobs in self._waiting.values() for job in jobs if self.is_abandoned(job)]:
            self._remove(job)

    def _speed(self) -> float | None:
        """Seconds of a unit of cost: the median, so that a request that compiles counts as one."""
        return statistics.median(self._speeds) if self._speeds else None

    def _left_of_running(self) -> float | None:
        """Seconds until the running job is done; 0 if none runs, None if it is not known."""
        if (job := self._running) is None:
            return 0.0
        gone, speed = self.now() - job.begun, self._speed()
        if job.total and job.done > 1:
            return gone * (job.total - job.done) / job.done
        return None if speed is None else max(speed * job.cost - gone, 0.0)
