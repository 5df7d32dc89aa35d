"""Several processes on this machine, as if each were a host: the same command that a pod runs.

    python launch/local_pod.py --processes=2 --devices=4 -- codi-jax train --config=configs/two.py:tiny --workdir=out/it

Every line of output begins with the number of its process. SIGTERM and Ctrl-C are passed on to all of them. When one
ends with a code other than 0 the others have two minutes to end by themselves, as the processes of a pod have to, and
are killed after that. The exit code is the first that was not 0; that of a process which a signal ended is 128 + its
number.
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
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def _environment(process: int, processes: int, port: int, devices: int | None) -> dict[str, str]:
    own = {"CODI_COORDINATOR": f"localhost:{port}", "CODI_PROCESSES": str(processes), "CODI_PROCESS": str(process)}
    if devices is not None:
        flags = [f for f in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in f]
        own["XLA_FLAGS"] = " ".join([*flags, f"--xla_force_host_platform_device_count={devices}"])
        own["JAX_PLATFORMS"] = "cpu"
    return {**os.environ, **own}


def _pass_on(stream: BinaryIO, process: int) -> None:
    with stream:
        for line in stream:
            with _PRINTING:
                sys.stdout.buffer.write(b"%d: " % process + line.rstrip(b"\n") + b"\n")
                sys.stdout.buffer.flush()


def _kill(processes: Iterable[subprocess.Popen]) -> None:
    """Ends processes that have not ended, and all that they have started."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run(command: Sequence[str], processes: int, devices: int | None = None, grace: float = GRACE) -> int:
    """Runs a command in several processes of one run.

    Args:
      command: what each runs.
      processes: how many.
      devices: virtual CPU devices of each; None for what a process finds, which only CPU devices can be shared.
      grace: seconds that the others have when one has failed.

    Returns:
      0, or the first code that was not.
    """
    asked: list[int] = []  # signals, which the loop passes on when all have been started
    before = {n: signal.signal(n, lambda number, _: asked.append(number)) for n in (signal.SIGTERM, signal.SIGINT)}
    port = _free_port()
    running = {
        k: subprocess.Popen(
            command,
            env=_environment(k, processes, port, devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches them by way of this process alone
        )
        for k in range(processes)
    }
    readers = [threading.Thread(target=_pass_on, args=(p.stdout, k)) for k, p in running.items()]
    for reader in readers:
        reader.start()
    code, deadline = 0, float("inf")
    try:
        while running:
            while asked:
                number = asked.pop(0)
                for process in running.values():
                    process.send_signal(number)
            for k, process in list(running.items()):
                ended = process.poll()
                if ended is None:
                    continue
                del running[k]
                if ended:
                    code = code or (ended if ended > 0 else 128 - ended)
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
        for number, handler in before.items():
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
    parser.add_argument("--processes", type=int, required=True, metavar="N", help="how many processes")
    parser.add_argument("--devices", type=int, metavar="D", help="virtual CPU devices of each (all it finds)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what each runs, after --")
    args = parser.parse_args(arguments)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if args.processes < 1 or (args.devices is not None and args.devices < 1):
        parser.error("--processes and --devices: expected positive numbers")
    if not command:
        parser.error("no command: write it after --")
    return run(command, args.processes, args.devices)


if __name__ == "__main__":
    sys.exit(main())
