"""Runs a command in several processes on this machine, as a pod runs it on several hosts.

    python launch/local_pod.py --processes=2 --devices=4 -- codi-jax train --config=demo:tiny --workdir=out/it

Every line of output is prefixed with the number of its process. SIGTERM and Ctrl-C are forwarded to all processes. If
one exits with a code other than 0, the others have two minutes to exit by themselves, as on a pod, and are then killed.
The exit code is the first that is not 0; for a process ended by a signal it is 128 + the number of the signal.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import BinaryIO

GRACE = 120.0  # seconds
_PRINTING = threading.Lock()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


def _environment(process: int, processes: int, port: int, devices: int | None) -> dict[str, str]:
    variables = {
        "CODI_COORDINATOR": f"localhost:{port}",
        "CODI_PROCESSES": str(processes),
        "CODI_PROCESS": str(process),
    }
    if devices is not None:
        flags = [f for f in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in f]
        variables["XLA_FLAGS"] = " ".join([*flags, f"--xla_force_host_platform_device_count={devices}"])
        variables["JAX_PLATFORMS"] = "cpu"
    return {**os.environ, **variables}


def _forward_output(stream: BinaryIO, process: int) -> None:
    with stream:
        for line in stream:
            with _PRINTING:
                sys.stdout.buffer.write(b"%d: " % process + line.rstrip(b"\n") + b"\n")
                sys.stdout.buffer.flush()


def _kill(processes: Iterable[subprocess.Popen]) -> None:
    """Kills the process groups of processes."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run(command: Sequence[str], processes: int, devices: int | None = None, grace: float = GRACE) -> int:
    """Runs a command in several processes that form one distributed run.

    Args:
      command: the command line of each process.
      processes: number of processes.
      devices: virtual CPU devices per process; None leaves the choice to JAX. Processes can only share CPU devices.
      grace: seconds until the other processes are killed after one has failed.

    Returns:
      0, or the first exit code that is not 0.
    """
    received: list[int] = []  # signals; the loop forwards them when all processes have been started
    handlers = {n: signal.signal(n, lambda number, _: received.append(number)) for n in (signal.SIGTERM, signal.SIGINT)}
    port = _free_port()
    running = {
        k: subprocess.Popen(
            command,
            env=_environment(k, processes, port, devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # only this process receives Ctrl-C directly
        )
        for k in range(processes)
    }
    readers = [threading.Thread(target=_forward_output, args=(p.stdout, k)) for k, p in running.items()]
    for reader in readers:
        reader.start()
    code, deadline = 0, float("inf")
    try:
        while running:
            while received:
                number = received.pop(0)
                for process in running.values():
                    process.send_signal(number)
            for k, process in list(running.items()):
                returncode = process.poll()
                if returncode is None:
                    continue
                del running[k]
                if returncode:
                    code = code or (returncode if returncode > 0 else 128 - returncode)
                    deadline = min(deadline, time.monotonic() + grace)
            if running and time.monotonic() > deadline:
                names = ", ".join(map(str, running))
                print(f"local_pod: {names} still running {grace:g} seconds after the first failed; killed", flush=True)
                _kill(running.values())
                deadline = float("inf")
            time.sleep(0.05)
    finally:
        _kill(running.values())
        for reader in readers:
            reader.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="local_pod.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="local_pod.py [-h] --processes=N [--devices=D] -- COMMAND …",
    )
    parser.add_argument("--processes", type=int, required=True, metavar="N", help="number of processes")
    parser.add_argument(
        "--devices", type=int, metavar="D", help="virtual CPU devices per process (default: the devices that JAX finds)"
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND", help="command line of each process, after --"
    )
    args = parser.parse_args(arguments)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if args.processes < 1 or (args.devices is not None and args.devices < 1):
        parser.error("--processes and --devices: expected positive numbers")
    if not command:
        parser.error("no command: write it after --")
    return run(command, args.processes, args.devices)


if __name__ == "__main__":
    sys.exit(main())
