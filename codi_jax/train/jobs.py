"""Training independent stages in parallel, in several processes on one machine.

On a machine with few cores two small stages on half the cores each finish sooner than one after the other on all cores.
Every worker is pinned to its cores and runs one stage at a time; of the stages that are ready, the one with the longest
critical path to the end starts first (by `scheduling_weight`). The number of cores is part of the device layout that a
stage's numbers depend on, so every stage runs in a worker, also the last one.
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
from codi_jax.parallel.host import keep_freed_memory, kept_programs, prepare_process
from codi_jax.plugins import import_plugins
from codi_jax.train.continued import finished_line
from codi_jax.train.overall import Overall, critical_path
from codi_jax.train.recipe import Run, load_run
from codi_jax.train.stop import Preempted
from codi_jax.train.trainer import train

_PR_SET_PDEATHSIG = 1  # prctl(2)


class _Lines:
    """A stream that claims to be no terminal, since the live views of several workers would overwrite each other."""

    def __init__(self, stream: Any):
        self.write, self.flush = stream.write, stream.flush

    def isatty(self) -> bool:
        return False


class _Forward:
    """In a worker, in place of `Overall`: sends progress to the parent's `Overall`, at most every `every` seconds."""

    def __init__(self, connection: Connection, every: float = 2.0):
        self._connection, self._every, self._sent = connection, every, -math.inf

    def begin(self, name: str) -> None:
        self._sent = -math.inf

    def end(self, name: str) -> None:
        """Sends nothing: the worker's reply tells the parent."""

    def __call__(self, name: str, done: int, total: int) -> None:
        if time.monotonic() - self._sent >= self._every:
            self._sent = time.monotonic()
            self._connection.send((name, done, total))

    def due(self) -> bool:
        return False


def _die_with(parent: int) -> None:
    """On Linux, kills this worker when its parent dies, so that it does not go on writing into the workdir."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before prctl
        os._exit(1)


def _serve(
    connection: Connection,
    parent: int,
    cores: Sequence[int],
    workdir: Path,
    plugins: Sequence[str],
    programs: dict[str, Any],
    quiet: bool,
) -> None:
    """The main function of a worker.

    It receives names of stages until None. For each it sends (stage, steps done, total steps) as progress, and at the
    end None or the exception.
    """
    _die_with(parent)
    keep_freed_memory()
    prepare_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent terminates the workers
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    sys.stdout = _Lines(sys.stdout)
    for option, value in programs.items():
        jax.config.update(option, value)
    import_plugins(plugins)
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
    """Runs the named stages (all if None), up to `jobs` in parallel, and skips finished ones.

    Args:
      run: its config has been saved in the workdir.
      stages: names of stages.
      jobs: number of worker processes, at most one per core.
      quiet: see `train`.

    Raises:
      ConfigError: a stage that a named one depends on is neither finished nor named, or a stage raised it.
      Preempted: SIGTERM or Ctrl-C came; everything is saved.
    """
    requested = run.order if stages is None else stages
    waiting = []
    for name in requested:
        if run.complete(name):
            print(finished_line(run, name), flush=True)
            continue
        for need in run.stage(name).depends_on:
            if need not in requested and not run.finished(need):
                raise ConfigError(f"stage {name!r} depends on {need!r}, which is not finished in {run.workdir}")
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
        connection, worker_end = context.Pipe()
        arguments = (worker_end, os.getpid(), cores[k::jobs], run.workdir, run.config.plugins, kept_programs(), quiet)
        workers[connection] = context.Process(target=_serve, args=arguments, daemon=True)
        workers[connection].start()
        worker_end.close()
        idle.append(connection)
    overall = Overall(run, requested, jobs)
    busy: dict[Connection, str] = {}
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for connection in busy:
            workers[connection].terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    failed: Exception | None = None
    try:
        while busy or (waiting and not stopping and failed is None):
            if idle and waiting and not stopping and failed is None:
                unfinished = {*waiting, *busy.values()}
                ready = [name for name in waiting if unfinished.isdisjoint(run.stage(name).depends_on)]
                for name in ready[: len(idle)]:
                    connection = idle.pop()
                    connection.send(name)
                    busy[connection] = name
                    waiting.remove(name)
                    overall.begin(name)
            for connection in wait(list(busy), timeout=10):
                assert isinstance(connection, Connection)
                name = busy[connection]
                try:
                    error = connection.recv()
                    if isinstance(error, tuple):
                        overall(*error)
                        continue
                except EOFError:
                    code = workers[connection].join() or workers[connection].exitcode
                    error = Preempted(f"stopped in {name}; run it again") if stopping else _died(name, code)
                del busy[connection]
                overall.end(name)
                idle.append(connection)
                if error is not None and failed is None:
                    failed = error
                    for other in busy:
                        workers[other].terminate()
            if overall.due() and len(requested) > 1:
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
    if stopping:
        raise Preempted("stopped between stages; run it again for the remaining stages")


def _died(name: str, code: int | None) -> ConfigError:
    return ConfigError(f"stage {name!r}: its process ended with code {code}; run it again")
