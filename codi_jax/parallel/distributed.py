"""Runs of several processes: `jax.distributed` start-up, exit codes and the few values that all processes share.

    CODI_COORDINATOR=HOST:PORT   address at which process 0 listens
    CODI_PROCESSES=N             number of processes; 1 (and no other variable) forces a single-process run
    CODI_PROCESS=K               index of this process, 0 … N − 1

If none is set, `jax.distributed` detects a TPU pod, Slurm, Open MPI or an indexed Kubernetes job. If the environment
names several processes, either all of them start or none: a pod whose start fails must not train as N single hosts,
each on the whole data and each writing the same files. If the environment names none, nothing is started.

If a process dies, the others end with EXIT_UNAVAILABLE and one line that names its host (`parallel.peers`). If a
process ends with an error, the others end with its exit code. Two variables set the seconds of waiting:

    CODI_HEARTBEAT_SECONDS=50    without a heartbeat, after which a process counts as dead
    CODI_START_SECONDS=300       at the start, for the other processes
"""

import dataclasses
import importlib.util
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from codi_jax.config import ConfigError, first_line
from codi_jax.exit_codes import EXIT_UNAVAILABLE
from codi_jax.parallel import peers
from codi_jax.types import PyTree

Tree = TypeVar("Tree")

LEAVING = 30  # seconds that a process waits at exit for the others

_OWN = ("CODI_COORDINATOR", "CODI_PROCESSES", "CODI_PROCESS")


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes that the environment names.

    Attributes:
      source: what names them, for messages.
      count: their number; None if only `jax.distributed` can detect it.
      arguments: for `jax.distributed.initialize`, which detects the others.
    """

    source: str
    count: int | None = None
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


def _parse_int(name: str, text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise ConfigError(f"{name}: expected an integer >= {least}, got {text!r}")
    return number


def _from_codi_variables(environment: Mapping[str, str]) -> Processes | None:
    """The processes that the CODI_… variables name; None for a single process."""
    missing = [name for name in _OWN if not environment.get(name)]
    count = _parse_int(_OWN[1], environment[_OWN[1]], 1) if _OWN[1] not in missing else None
    if count == 1 and len(missing) == 2:
        return None
    if missing or count is None:
        raise ConfigError(f"{', '.join(missing)} not set: set all of {', '.join(_OWN)}, or none")
    coordinator, index = environment[_OWN[0]], _parse_int(_OWN[2], environment[_OWN[2]], 0)
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{_OWN[0]}: expected HOST:PORT, got {coordinator!r}")
    if index >= count:
        raise ConfigError(f"{_OWN[2]}={index}: the last of {count} processes is {count - 1}")
    if count == 1:
        return None
    # An empty list: all devices that this process can see.
    arguments = {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
    return Processes("CODI_PROCESSES", count, {**arguments, "local_device_ids": []})


def requested(environment: Mapping[str, str] = os.environ) -> Processes | None:
    """The processes that the environment names; None for a single process.

    Raises:
      ConfigError: only some of the CODI_… variables are set, or one is not valid.
    """
    if any(environment.get(name) for name in _OWN):
        return _from_codi_variables(environment)
    for source, tasks, on_this_host in (
        ("Slurm", "SLURM_NTASKS", "SLURM_STEP_TASKS_PER_NODE"),
        ("Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ):
        count = int(environment.get(tasks, 1))
        if count > 1:
            # By default jax gives each such process one device; a process that is alone on its host gets all of them.
            alone = environment.get(on_this_host, "").partition("(")[0] == "1"
            return Processes(source, count, {"local_device_ids": []} if alone else {})
    if "tpu" in environment.get("JAX_PLATFORMS", "tpu"):
        hosts = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES"))
        if hosts is not None:  # of one slice
            count = len(hosts.split(",")) * int(environment.get("MEGASCALE_NUM_SLICES") or 1)
            return Processes("the TPU's environment", count) if count > 1 else None
        if "TPU_SKIP_MDS_QUERY" not in environment and importlib.util.find_spec("libtpu"):
            # `import jax` sets the variable if there are no chips; if there are, the metadata server has the processes.
            return Processes("the TPU's metadata")
    indexed = "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment
    return Processes("the Kubernetes job") if indexed else None


def _seconds(name: str, default: int) -> int:
    return _parse_int(name, os.environ.get(name) or str(default), 1)


def start(processes: Processes | None) -> None:
    """Initializes `jax.distributed`, before any other call to jax; does nothing for None.

    If not all processes connect, prints one line and exits with EXIT_UNAVAILABLE.

    Args:
      processes: from `requested`.

    Raises:
      ConfigError: a variable with a number of seconds is not valid.
    """
    if processes is None:
        return
    heartbeat, wait = _seconds("CODI_HEARTBEAT_SECONDS", 50), _seconds("CODI_START_SECONDS", 300)
    number = f"{processes.count} " if processes.count else ""
    print(f"codi-jax: connecting to the {number}processes named by {processes.source}", file=sys.stderr, flush=True)

    # On a timeout jax itself would abort with a stack trace.
    timeout = threading.Timer(wait, _give_up, (processes, f"not all connected within {wait} seconds"))
    timeout.daemon = True
    timeout.start()
    # For collectives between CPU devices of several processes.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        with peers.quiet_client():
            jax.distributed.initialize(
                **processes.arguments,
                initialization_timeout=wait + 60,
                heartbeat_timeout_seconds=2 * heartbeat + 10,  # ours come first, since jax aborts
                shutdown_timeout_seconds=LEAVING,
            )
        peers.watch(heartbeat)  # before the devices of all processes are found, which waits for every process
        count = jax.process_count()
    except Exception as error:  # on any error: this process must not continue alone
        _give_up(processes, first_line(error))
    finally:
        timeout.cancel()
    if processes.count not in (None, count):
        _give_up(processes, f"jax sees {count} process{'es' if count > 1 else ''}, not {processes.count}")
    if jax.process_index() == 0:
        devices = f"{jax.local_device_count()} of {jax.device_count()} devices on this one"
        print(f"codi-jax: {count} processes, {devices}", file=sys.stderr, flush=True)


def _give_up(processes: Processes, why: str) -> NoReturn:
    hint = "run the same command on each, or set CODI_PROCESSES=1 for a single-process run"
    line = f"codi-jax: the processes named by {processes.source} did not connect: {why}; {hint}"
    print(line, file=sys.stderr, flush=True)
    os._exit(EXIT_UNAVAILABLE)  # sys.exit would wait for jax threads that are still connecting


def exit_process(code: int) -> NoReturn:
    """Calls `sys.exit`. With a non-zero code, waits at most `LEAVING` / 2 seconds for the other processes."""
    peers.end(code)
    if code and jax.distributed.is_initialized():
        # jax would wait for LEAVING seconds at exit and then abort, which replaces the exit code.
        timeout = threading.Timer(LEAVING / 2, os._exit, (code,))
        timeout.daemon = True
        timeout.start()
    sys.exit(code)


def is_multiprocess() -> bool:
    """Whether the run has several processes. Does not initialize the devices of a single-process run."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def index_and_count() -> tuple[int, int]:
    """The index of this process and the number of processes, by which they share work; 0 and 1 without others."""
    return (jax.process_index(), jax.process_count()) if is_multiprocess() else (0, 1)


def is_primary() -> bool:
    """Whether this is process 0, which prints and writes the files that exist once per run."""
    return not is_multiprocess() or jax.process_index() == 0


def broadcast_from_primary(number: int) -> int:
    """The number (within ±2³¹) that process 0 passes, on all processes. A collective: every process must call it."""
    if not is_multiprocess():
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def wait_for_all(what: str) -> None:
    """A barrier: returns once every process has called it. `what` names it and must be the same on all processes."""
    if is_multiprocess():
        multihost_utils.sync_global_devices(what)


def run_on_primary(act: Callable[[], None], what: str) -> None:
    """Calls `act` on process 0 while the others wait. A collective: every process must call it.

    Args:
      act: what to do.
      what: its description after "could not", for the other processes.

    Raises:
      Exception: what `act` raised, on process 0.
      ConfigError: on the other processes, if `act` raised an exception.
    """
    failure: Exception | None = None
    if is_primary():
        try:
            act()
        except Exception as error:  # the other processes wait to hear of it
            failure = error
    if broadcast_from_primary(failure is not None):
        raise failure or ConfigError(f"process 0 could not {what}; its line says why")


def fetch(tree: PyTree) -> PyTree:
    """Global arrays as numpy arrays on this host. A collective: every process must call it."""

    def to_host(array: object) -> np.ndarray:
        if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
            return jax.device_get(array)
        return multihost_utils.process_allgather(array, tiled=True)

    return jax.tree.map(to_host, tree)


def gather(tree: Tree) -> list[Tree]:
    """The trees of NumPy arrays of all processes, in their order. A collective: every process must call it.

    Arrays of a leaf have the same type and number of axes on all processes; their sizes may differ. They keep their
    type: bytes are exchanged, since jax would convert float64 to float32.
    """
    if not is_multiprocess():
        return [tree]
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    sizes = np.array([length for leaf in leaves for length in leaf.shape], np.int64)
    splits = np.cumsum([leaf.ndim for leaf in leaves])[:-1]
    shapes = [np.split(of_process, splits) for of_process in _gather_equal(sizes)]
    data = []
    for i, leaf in enumerate(leaves):
        numbers = [math.prod(of_process[i].tolist()) for of_process in shapes]
        padded = np.zeros(max(numbers), leaf.dtype)
        padded[: leaf.size] = leaf.reshape(-1)
        rows = zip(_gather_equal(padded), numbers, shapes, strict=True)
        data.append([row[:number].reshape(of_process[i]) for row, number, of_process in rows])
    return [structure.unflatten(of_leaf[process] for of_leaf in data) for process in range(jax.process_count())]


def _gather_equal(array: np.ndarray) -> list[np.ndarray]:
    """The arrays [n] of all processes, of one type and size."""
    if not array.size:
        return [array] * jax.process_count()
    rows = multihost_utils.process_allgather(np.frombuffer(array.tobytes(), np.uint8))
    return [np.frombuffer(row.tobytes(), array.dtype) for row in rows]
