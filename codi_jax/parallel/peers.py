"""The other processes of a run: this one ends in one line that names the host, if one of them is gone.

Every process writes a heartbeat to the key-value store of jax's coordination service, which process 0 runs, and reads
those of the others:

    codi/peers/K     number of heartbeats, host name, own seconds per step; exit code and reason, once it is ending

A process that has written none for `seconds` is gone. One that ends with an error ends the others with the same code.
jax has heartbeats of its own, but aborts (SIGABRT, with frames of C++) when they are missed or process 0 does not
answer; its callback for this cannot be a Python function (`std::bad_cast`), so the signal is handled here instead.
"""

import atexit
import contextlib
import ctypes
import functools
import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

from jax._src import distributed as jax_distributed

from codi_jax.exit_codes import EXIT_PREEMPTED, EXIT_UNAVAILABLE

PREFIX = "codi/peers/"
_ORDERLY = (0, EXIT_PREEMPTED)  # exit codes of processes that end together


class Store(Protocol):
    """The key-value store of jax's coordination service."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...


class Peers:
    """What this process knows of the others.

    Args:
      store: shared by all processes.
      me, count: index of this process; number of processes.
      seconds: without a heartbeat after which a process is gone.
      clock: seconds.
    """

    def __init__(self, store: Store, me: int, count: int, seconds: float, clock: Callable[[], float] = time.monotonic):
        self.seconds, self.interval = seconds, min(seconds / 10, 2.0)
        self._store, self._me, self._clock = store, me, clock
        self._beats, self._end = 0, ("", "")
        self.own_seconds = 0.0  # per step, which this process tells the others
        self.seconds_of: dict[int, float] = {}  # the same of all processes that have told theirs
        self._seen: dict[int, tuple[str, float]] = {k: ("", clock()) for k in range(count) if k != me}
        self._hosts: dict[int, str] = {}
        self._answered = clock()

    def name(self, process: int) -> str:
        """A process with its host, for messages."""
        return f"process {process} on {self._hosts.get(process, 'an unknown host')}"

    def end(self, code: int, why: str = "") -> None:
        """Tells the others that this process ends with an exit code, and why, if all have to end for this reason."""
        self._end = (str(code), why)
        with contextlib.suppress(Exception):  # the store has ended as well
            self._write()

    def _write(self) -> None:
        value = "\n".join((str(self._beats), socket.gethostname(), str(self.own_seconds), *self._end))
        self._store.key_value_set(f"{PREFIX}{self._me}", value, allow_overwrite=True)

    def beat(self) -> tuple[str, int] | None:
        """Writes a heartbeat and reads those of the others.

        Returns:
          Why this process has to end, and with which code; None if all are well.
        """
        self._beats += 1
        try:
            self._write()
            entries = self._store.key_value_dir_get(PREFIX)
        except Exception:  # the service does not answer; jax retries
            return self.gone(self.seconds)
        self._answered = self._clock()
        for key, value in entries:
            process = int(key.rpartition("/")[2])
            _, self._hosts[process], own, code, why = value.split("\n")
            self.seconds_of[process] = float(own)
            if process not in self._seen:
                continue
            if code and int(code) not in _ORDERLY:
                return why or f"{self.name(process)} ended with exit code {code}", int(code)
            if code:
                del self._seen[process]
            elif value != self._seen[process][0]:
                self._seen[process] = (value, self._answered)
        return self.gone(self.seconds)

    def gone(self, seconds: float) -> tuple[str, int] | None:
        """As `beat`, by what is known: the first process without a heartbeat for some seconds."""
        now = self._clock()
        if now - self._answered > seconds and self._me:
            why = f"no answer for {now - self._answered:.0f} seconds"
            return f"{self.name(0)} is gone: {why}", EXIT_UNAVAILABLE
        for process, (_, at) in self._seen.items():
            # A process that cannot reach process 0 knows nothing of the others since.
            if self._answered - at > seconds:
                why = f"no heartbeat for {self._answered - at:.0f} seconds"
                return f"{self.name(process)} is gone: {why}", EXIT_UNAVAILABLE
        return None


_peers: Peers | None = None
_ending = threading.Lock()  # only one thread ends the process
_stop = threading.Event()
_exit_code: int | None = None  # of this process, once it is ending


def watch(seconds: float) -> None:
    """Starts the heartbeats of this process, after `jax.distributed.initialize`; does nothing if it is the only one."""
    global _peers
    state = jax_distributed.global_state
    if state.client is None or state.num_processes < 2:
        return
    _peers = Peers(state.client, state.process_id, state.num_processes, seconds)
    thread = threading.Thread(target=_watch, args=(_peers,), name="peers", daemon=True)
    thread.start()
    atexit.register(_leave, thread)
    _handle_abort()


def _leave(thread: threading.Thread) -> None:
    """Ends the heartbeats, before jax waits for the other processes."""
    global _exit_code
    _exit_code = _exit_code or 0
    _stop.set()
    # The interpreter ends a daemon thread that returns from C++ by an exception, which would abort the process.
    thread.join(10)


def _watch(peers: Peers) -> None:
    while not _stop.is_set():
        if (found := peers.beat()) is not None and _exit_code is None:
            _end(*found)
        _stop.wait(peers.interval)


def known() -> Peers | None:
    """What this process knows of the others; None in a run of one process."""
    return _peers


def end(code: int) -> None:
    """Tells the other processes, if there are any, that this one ends with an exit code."""
    global _exit_code
    _exit_code = code
    if _peers is not None:
        _peers.end(code)


def end_if_gone() -> None:
    """Ends this process if another is gone; called after a failed collective, and then waits for some heartbeats."""
    if _peers is not None:
        deadline = time.monotonic() + 5 * _peers.interval
        while time.monotonic() < deadline:
            if (found := _peers.gone(3 * _peers.interval)) is not None:
                _end(*found)
            time.sleep(_peers.interval / 4)


def _end(why: str, code: int) -> NoReturn:
    global _exit_code
    _ending.acquire()
    _exit_code = code
    _report(why, code)
    if _peers is not None:
        _peers.end(code, why)
        if jax_distributed.global_state.service is not None:
            time.sleep(3 * _peers.interval)  # the others read the reason from the store of this process
    os._exit(code)


def _report(why: str, code: int) -> None:
    again = "; run the same command again" if code == EXIT_UNAVAILABLE else ""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        print(f"codi-jax: {why}{again}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def quiet_client() -> Iterator[None]:
    """Within the block, clients of the coordination service abort without printing frames of C++."""
    library: Any = importlib.import_module("jax._src.lib")._jax
    make = library.get_distributed_runtime_client
    if "missed_heartbeat_callback" in (make.__doc__ or ""):  # its signature, of a function of C++
        library.get_distributed_runtime_client = functools.partial(make, missed_heartbeat_callback=lambda *_: None)
    try:
        yield
    finally:
        library.get_distributed_runtime_client = make


def _handle_abort() -> None:
    """Ends this process in one line if it aborts because process 0 or another one is gone."""
    libc = ctypes.CDLL(None)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    libc.signal(signal.SIGABRT, ctypes.cast(_ABORT_HANDLER, ctypes.c_void_p))


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _ABORT_HANDLER(_: int) -> None:
    """A handler of C, run by the thread that aborts: Python's own would run in the main thread, which may wait for it.

    That may be the thread which receives the answers of the store, so the store is not used here.
    """
    if _exit_code is not None:
        os._exit(_exit_code)
    if _peers is None:
        return
    why, deadline = None, time.monotonic() + max(5 * _peers.interval, 2.0)
    while why is None and time.monotonic() < deadline:  # a killed process may answer until the system has removed it
        if not _coordinator_answers():
            why = f"{_peers.name(0)} is gone: its coordination service does not answer"
        elif (found := _peers.gone(3 * _peers.interval)) is not None:
            why, _ = found
        else:
            time.sleep(0.1)
    if why is not None:  # else it is another error, on which the process ends by SIGABRT
        _report(why, EXIT_UNAVAILABLE)
        os._exit(EXIT_UNAVAILABLE)


def _coordinator_answers() -> bool:
    host, _, port = (jax_distributed.global_state.coordinator_address or "").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True
