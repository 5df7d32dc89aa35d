"""Several processes, one run: how they find one another, and the few things that they have to agree on.

    CODI_COORDINATOR=HOST:PORT   where process 0 listens
    CODI_PROCESSES=N             how many there are; 1 alone: one process, whatever the environment looks like
    CODI_PROCESS=K               which this one is, 0 … N − 1

or, with none of these, what `jax.distributed` finds by itself: a TPU pod, Slurm, Open MPI, an indexed Kubernetes job.
Where the environment tells of several processes there will be several or none: a pod on which the start fails must not
train as N single hosts, each on the whole data, each writing the same files. Where it tells of none, nothing is
started.

A process that dies takes the others with it: they miss its heartbeats for `HEARTBEAT` seconds, or the collective that
they wait in is broken off, and they end with a code that is not 0. One that leaves with an error which it alone has
waits half of `LEAVING` for the others, and they are ended after all of it. Either way stays below two minutes.
"""

import dataclasses
import importlib.util
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from codi_jax.config import ConfigError

HEARTBEAT = 50  # seconds without a sign of life after which a process counts as dead
LEAVING = 30  # seconds that a process which is done, or has failed, waits for the others
STARTING = 300  # seconds that processes which are up wait for those that are not

EXIT_NOT_STARTED = 69  # EX_UNAVAILABLE
_OWN = ("CODI_COORDINATOR", "CODI_PROCESSES", "CODI_PROCESS")


@dataclasses.dataclass(frozen=True)
class Processes:
    """Processes that the environment tells of.

    Attributes:
      told_by: who says so.
      count: how many; None if only `jax.distributed` can find out.
      arguments: for `jax.distributed.initialize`; what is missing it finds by itself.
    """

    told_by: str
    count: int | None = None
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


def _number(name: str, text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise ConfigError(f"{name}: expected a number from {least} on, got {text!r}")
    return number


def _own(environment: Mapping[str, str]) -> Processes | None:
    """What the variables of this package ask for; None for one process."""
    missing = [name for name in _OWN if not environment.get(name)]
    count = _number(_OWN[1], environment[_OWN[1]], 1) if _OWN[1] not in missing else None
    if count == 1 and len(missing) == 2:
        return None
    if missing:
        raise ConfigError(f"{', '.join(missing)} not set: {', '.join(_OWN)} are set together or not at all")
    coordinator, index = environment[_OWN[0]], _number(_OWN[2], environment[_OWN[2]], 0)
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{_OWN[0]}: expected HOST:PORT, got {coordinator!r}")
    if index >= count:
        raise ConfigError(f"{_OWN[2]}={index}: of {count} processes, the last is {count - 1}")
    if count == 1:
        return None
    # No devices named: all that this process can see.
    arguments = {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
    return Processes("CODI_PROCESSES", count, {**arguments, "local_device_ids": []})


def requested(environment: Mapping[str, str] = os.environ) -> Processes | None:
    """The processes that the environment tells of; None where a run is one process.

    Raises:
      ConfigError: some of the variables CODI_… are missing, or one is not what it has to be.
    """
    if any(environment.get(name) for name in _OWN):
        return _own(environment)
    for told_by, tasks, on_this_host in (
        ("Slurm", "SLURM_NTASKS", "SLURM_STEP_TASKS_PER_NODE"),
        ("Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ):
        count = int(environment.get(tasks, 1))
        if count > 1:
            # Left to itself, jax gives each process of these one device; alone on its host, it is to have them all.
            alone = environment.get(on_this_host, "").partition("(")[0] == "1"
            return Processes(told_by, count, {"local_device_ids": []} if alone else {})
    if "tpu" in environment.get("JAX_PLATFORMS", "tpu"):
        hosts = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES"))
        if hosts is not None:  # of one slice
            count = len(hosts.split(",")) * int(environment.get("MEGASCALE_NUM_SLICES") or 1)
            return Processes("the TPU's environment", count) if count > 1 else None
        if "TPU_SKIP_MDS_QUERY" not in environment and importlib.util.find_spec("libtpu"):
            # `import jax` sets the variable where there are no chips; where there are, the metadata server knows.
            return Processes("the TPU's metadata")
    indexed = "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment
    return Processes("the Kubernetes job") if indexed else None


def start(processes: Processes | None, wait: int = STARTING) -> None:
    """Joins this process to the others, once and before anything is asked of jax; does nothing for None.

    Ends this process, with one line and the code EXIT_NOT_STARTED, where they do not all come together.

    Args:
      processes: from `requested`.
      wait: seconds for the others to come up.
    """
    if processes is None:
        return
    among = f" of {processes.count}" if processes.count else ""
    print(f"codi-jax: joining the processes{among} that {processes.told_by} tells of", file=sys.stderr, flush=True)

    # jax ends a process that waits in vain by an abort and a stack trace.
    patience = threading.Timer(wait, _give_up, (processes, f"not all were there after {wait} seconds"))
    patience.daemon = True
    patience.start()
    # Between CPU devices of several processes; others have their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **processes.arguments,
            initialization_timeout=wait + 60,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=LEAVING,
        )
        count = jax.process_count()
    except Exception as error:  # whatever it is: going on alone is the one thing that must not happen
        _give_up(processes, str(error).splitlines()[0] if str(error) else type(error).__name__)
    finally:
        patience.cancel()
    if processes.count not in (None, count):
        _give_up(processes, f"jax counts {count} process{'es' if count > 1 else ''}, not {processes.count}")
    if jax.process_index() == 0:
        here = f"{jax.local_device_count()} of {jax.device_count()} devices on this one"
        print(f"codi-jax: {count} processes, {here}", file=sys.stderr, flush=True)


def _give_up(processes: Processes, why: str) -> None:
    hint = "make each of them run the same command, or set CODI_PROCESSES=1 for a run of this process alone"
    line = f"codi-jax: the processes that {processes.told_by} tells of have not come together: {why}; {hint}"
    print(line, file=sys.stderr, flush=True)
    os._exit(EXIT_NOT_STARTED)  # threads of jax may still be waiting, and an orderly exit would wait for them


def exit_process(code: int) -> NoReturn:
    """Ends this process by `sys.exit`; if it fails and the others do not, it waits for them no longer than a while."""
    if code and jax.distributed.is_initialized():
        # jax would wait for LEAVING seconds at exit, and then replace the code by that of an abort.
        patience = threading.Timer(LEAVING / 2, os._exit, (code,))
        patience.daemon = True
        patience.start()
    sys.exit(code)


def is_multiprocess() -> bool:
    """Whether this run is of several processes. Asks nothing of the devices where it is not."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_primary() -> bool:
    """Whether this process is the one that prints, and that writes what is written once."""
    return not is_multiprocess() or jax.process_index() == 0


def broadcast_from_primary(number: int) -> int:
    """What process 0 says, in all processes; each has to call it. Number: within ± 2^31."""
    if not is_multiprocess():
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def wait_for_all(what: str) -> None:
    """Returns when every process has come here; `what` is the same in all."""
    if is_multiprocess():
        multihost_utils.sync_global_devices(what)


def fetch(tree: Any) -> Any:
    """Arrays as numpy arrays on this host, wherever their parts are; each process has to call it."""

    def whole(array: Any) -> np.ndarray:
        if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
            return jax.device_get(array)
        return multihost_utils.process_allgather(array, tiled=True)

    return jax.tree.map(whole, tree)
