"""Measurements that take turns, each framework in a process of its own.

    ours = Worker("benchmarks.unet_jax:Ours", options, threads=2)
    theirs = Worker("benchmarks.unet_torch:Theirs", options, threads=2)
    timings = take_turns({"ours": lambda: ours.time("run", case), "theirs": lambda: theirs.time("run", case)}, 5)

No other framework's threads, allocator or memory are in the process that is measured. The processes stay alive, so that
nothing is compiled twice, and one of them runs at a time, in the order A B, B A, A B, …: what disturbs the machine for
a while disturbs all of them.
"""

import ctypes
import dataclasses
import importlib
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Timing:
    """One call.

    Attributes:
      seconds: wall time.
      core_seconds: processor time of all threads.
      peak_bytes: the largest resident memory of the process during the call; 0 where the system does not tell.
    """

    seconds: float
    core_seconds: float
    peak_bytes: int


class WorkerError(Exception):
    """A call in a worker failed; the message is its traceback, or says that the process is gone."""


class Worker:
    """An object in another process, whose methods are called from this one.

    Args:
      target: "module:class" of the object.
      *args: of the class; these, and what its methods take and return, are pickled.
      threads: how many CPUs the process may use; None for all.
      environment: environment variables of the process, beside those of this one.
    """

    def __init__(
        self, target: str, *args: Any, threads: int | None = None, environment: Mapping[str, str] | None = None
    ):
        self._pipe, child = multiprocessing.Pipe()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        variables = {**os.environ, "PYTHONPATH": path, **(environment or {})}
        if threads is not None:
            variables |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workers", str(child.fileno()), str(threads or 0)],
            pass_fds=(child.fileno(),),
            env=variables,
        )
        child.close()
        self.pid = self._process.pid
        self._exchange((target, args))

    def call(self, method: str, *args: Any) -> Any:
        """Calls a method of the object.

        Raises:
          WorkerError: the method raised an exception, or the process ended.
        """
        return self._exchange((method, args))[0]

    def time(self, method: str, *args: Any) -> Timing:
        """Calls a method and drops its result; see `call`."""
        return self._exchange((method, args, "time"))[1]

    def memory(self, method: str, *args: Any) -> int:
        """The peak of resident memory in bytes during a call, with a heap that holds nothing freed before it."""
        return self._exchange((method, args, "memory"))[1].peak_bytes

    def _exchange(self, message: tuple) -> tuple[Any, Timing]:
        try:
            self._pipe.send(message)
            succeeded, *reply = self._pipe.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            raise WorkerError(f"the process ended with {code}; -9 is often a lack of memory") from None
        if not succeeded:
            raise WorkerError(reply[0])
        return reply[0], reply[1]

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.wait()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def take_turns(calls: Mapping[str, Callable[[], Timing]], repeats: int) -> dict[str, list[Timing]]:
    """The timings of `repeats` calls of each function, in turns and in alternating order."""
    timings: dict[str, list[Timing]] = {name: [] for name in calls}
    for repeat in range(repeats):
        for name in list(calls)[:: 1 if repeat % 2 == 0 else -1]:
            timings[name].append(calls[name]())
    return timings


def measure_call(function: Callable[..., Any], *args: Any) -> tuple[Any, Timing]:
    """Calls a function. Returns its result and the timing."""
    _forget_peak()
    start, core = time.perf_counter(), time.process_time()
    result = function(*args)
    timing = Timing(time.perf_counter() - start, time.process_time() - core, _peak())
    return result, timing


def best_seconds(function: Callable[[], Any], budget: float) -> float:
    """The shortest of the calls that fit into `budget` seconds, after a first one."""
    function()
    best, end = float("inf"), time.perf_counter() + budget
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak becomes the present size
    except OSError:
        return


def _return_freed_memory() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)


def _serve(pipe: Connection) -> None:
    served: Any = None
    while True:
        try:
            name, args, *timed = pipe.recv()
        except EOFError:
            return
        try:
            if served is None:
                module, _, attribute = name.partition(":")
                served = getattr(importlib.import_module(module), attribute)(*args)
                reply: tuple = (True, None, None)
            else:
                if timed == ["memory"]:
                    _return_freed_memory()
                result, timing = measure_call(getattr(served, name), *args)
                reply = (True, None if timed else result, timing)
                del result
        except Exception:
            reply = (False, traceback.format_exc(limit=-6))
        pipe.send(reply)


if __name__ == "__main__":
    descriptor, limit = map(int, sys.argv[1:])
    if limit and hasattr(os, "sched_setaffinity"):  # XLA has one thread for each CPU of the process
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:limit])
    # The main module has another name than the one that the parent imported, from which the pickled classes come.
    importlib.import_module("benchmarks.workers")._serve(Connection(descriptor))
