"""Independent stages side by side, in several processes on one machine.

On a few cores two small stages, each on its own cores, get more done than one stage on all of them. A worker keeps its
cores and takes one stage after the other; of the stages that are ready, the one with the dearest chain of stages behind
it goes first (the critical path, by the `cost` of each). How many cores a stage runs on is part of the layout on which
its numbers depend, so every stage runs on a worker, the last one too.
"""

import ctypes
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import jax

from codi_jax import storage
from codi_jax.checkpoint import CheckpointError
from codi_jax.config import ConfigError
from codi_jax.parallel.host import (
    collect_garbage_less_often,
    hide_orbax_logs,
    keep_freed_memory,
    kept_programs,
)
from codi_jax.train.loop import train
from codi_jax.train.overall import Overall, critical_path
from codi_jax.train.recipe import Run, load_run
from codi_jax.train.stop import Preempted

_PR_SET_PDEATHSIG = 1  # prctl(2)


class _Lines:
    """A stream that is no terminal: the live views of several workers would draw over one another."""

    def __init__(self, stream: Any):
        self.write, self.flush = stream.write, stream.flush

    def isatty(self) -> bool:
        return False


class _Forward:
    """In a worker: tells the parent's `Overall`, which shows it, of the progress, once in `every` seconds."""

    def __init__(self, connection: Connection, every: float = 2.0):
        self._connection, self._every, self._sent = connection, every, -math.inf

    def begin(self, name: str) -> None:
        self._sent = -math.inf

    def end(self, name: str) -> None:
        """The parent knows from what the worker answers."""

    def __call__(self, name: str, done: int, of: int) -> None:
        if time.monotonic() - self._sent >= self._every:
            self._sent = time.monotonic()
            self._connection.send((name, done, of))

    def due(self) -> bool:
        return False


def _die_with(parent: int) -> None:
    """Linux: lets no worker outlive a parent that was killed, and go on writing into the workdir."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(1)


def _serve(
    connection: Connection, parent: int, cores: Sequence[int], workdir: Path, programs: dict[str, Any], quiet: bool
) -> None:
    """A worker: stages come by name; (stage, steps done, of) go back, and in the end None or what went wrong."""
    _die_with(parent)
    keep_freed_memory()
    collect_garbage_less_often()
    hide_orbax_logs()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    sys.stdout = _Lines(sys.stdout)
    for option, value in programs.items():
        jax.config.update(option, value)
    run = load_run(workdir)
    while (name := connection.recv()) is not None:
        try:
            train(run, (name,), quiet, overall=_Forward(connection))
            connection.send(None)
        except (ConfigError, CheckpointError, Preempted) as error:
            connection.send(error)
        except Exception as error:
            if not (line := storage.explain(error, workdir)):
                raise
            connection.send(ConfigError(line))


def train_side_by_side(run: Run, stages: tuple[str, ...] | None, jobs: int, quiet: bool = False) -> None:
    """Runs the named stages (all if None), up to `jobs` at a time; what is finished is left alone.

    Args:
      run: its config has been saved in the workdir.
      stages: their names.
      jobs: processes, at most one a core.
      quiet: see `train`.

    Raises:
      ConfigError: a stage that a named one needs is neither finished nor named; or what a stage raised.
      Preempted: SIGTERM or Ctrl-C came; everything is saved.
    """
    wanted = run.order if stages is None else stages
    waiting = []
    for name in wanted:
        if run.finished(name):
            print(f"{name}  finished", flush=True)
            continue
        for need in run.stage(name).depends_on:
            if need not in wanted and not run.finished(need):
                raise ConfigError(f"stage {name!r} needs {need!r}, which is not finished in {run.workdir}")
        waiting.append(name)
    priority = critical_path(run)
    waiting.sort(key=lambda name: -priority[name])
    if not waiting:
        return
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    jobs = min(jobs, len(cores))
    context = multiprocessing.get_context("spawn")
    idle: list[Connection] = []
    workers: dict[Connection, Any] = {}
    for k in range(jobs):
        connection, theirs = context.Pipe()
        arguments = (theirs, os.getpid(), cores[k::jobs], run.workdir, kept_programs(), quiet)
        workers[connection] = context.Process(target=_serve, args=arguments, daemon=True)
        workers[connection].start()
        theirs.close()
        idle.append(connection)
    overall = Overall(run, wanted, jobs)
    busy: dict[Connection, str] = {}
    asked = False

    def stop(*_: Any) -> None:
        nonlocal asked
        asked = True
        for connection in busy:
            workers[connection].terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    failed: Exception | None = None
    try:
        while busy or (waiting and not asked and failed is None):
            if idle and waiting and not asked and failed is None:
                undone = {*waiting, *busy.values()}
                ready = [name for name in waiting if undone.isdisjoint(run.stage(name).depends_on)]
                for name in ready[: len(idle)]:
                    connection = idle.pop()
                    connection.send(name)
                    busy[connection] = name
                    waiting.remove(name)
                    overall.begin(name)
            for connection in wait(list(busy), timeout=10):
                name = busy[connection]
                try:
                    error = connection.recv()
                    if isinstance(error, tuple):
                        overall(*error)
                        continue
                except EOFError:
                    code = workers[connection].join() or workers[connection].exitcode
                    error = Preempted(f"stopped in {name}; run it again") if asked else _died(name, code)
                del busy[connection]
                overall.end(name)
                idle.append(connection)
                if error is not None and failed is None:
                    failed = error
                    for other in busy:
                        workers[other].terminate()
            if overall.due() and len(wanted) > 1:
                overall.print()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for connection, worker in workers.items():
            if worker.is_alive():
                connection.send(None)
            worker.join()
            connection.close()
    if failed is not None:
        raise failed
    if asked:
        raise Preempted("stopped between stages; run it again for the stages that follow")


def _died(name: str, code: int | None) -> ConfigError:
    return ConfigError(f"stage {name!r}: its process ended with code {code}; run it again")
