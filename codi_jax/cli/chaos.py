"""`codi-jax chaos`: does a run with random faults end with the parameters of an uninterrupted one?

    WORKDIR/uninterrupted    the run without faults
    WORKDIR/faults-K         the runs with faults; when one is finished, the next one begins
    WORKDIR/faults.jsonl     every attempt at a fault, so that an interrupted call resumes

Each fault is drawn from the seed and its number:

    kill          SIGKILL, during the start or a random time after a step
    terminate     SIGTERM, likewise
    suspend       SIGSTOP, SIGCONT some time later, and SIGKILL
    checkpoint, rename, renamed, full    see `cli.faults`

Of several processes one is hit; the others are killed if they have not ended after a while.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from codi_jax import storage
from codi_jax.cli.common import refuse, seed
from codi_jax.config import ConfigError

HELP = "train with random faults and compare the result with that of an uninterrupted run"

SIGNALS = ("kill", "terminate", "suspend")
INSIDE = ("checkpoint", "rename", "renamed", "full")
# Few and short steps between checkpoints, so that a write is in progress most of the time.
DEFAULT = (
    "--config=demo:tiny",
    *(
        f"--config.stages.codec.text.{field}"
        for field in ("steps=2000", "checkpoint_every=5", "log_every=1", "num_stats_samples=64")
    ),
    "--stage=codec.text",
)
# Exit codes of a process that a fault has hit; all other faults kill it. SIGTERM does so until training listens to it.
ENDS = {"terminate": (75, -signal.SIGTERM), "full": (2,)}
DURING = {"checkpoint": "checkpoint write", "full": "checkpoint write", "rename": "rename", "renamed": "rename"}
OF_CLOCKS = ("steps_per_second", "data_wait", "flops_per_second", "utilisation")
GRACE = 15.0  # seconds
EXIT_DIFFERENT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.epilog = "All other arguments are those of `train`; without any, a small codec is trained."
    parser.add_argument(
        "--workdir",
        dest="folder",
        metavar="WORKDIR",
        required=True,
        help="local directory of the runs; the same command resumes",
    )
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="number of faults (50)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the faults (0)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes of each run, on CPU (1)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Prints the faults and the hashes; exits with 1 if the results differ or a process ends in an unexpected way."""
    if args.kills < 1 or args.processes < 1:
        raise ConfigError("--kills and --processes: expected positive numbers")
    if storage.is_remote(args.folder):
        raise ConfigError(f"--workdir: expected a local directory, got {args.folder}")
    chaos = Chaos(storage.as_path(args.folder), tuple(rest) or DEFAULT, args.seed, args.processes)
    # Ends like Ctrl-C, which kills the processes that have been started.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _train(chaos, args.kills)
    finally:
        signal.signal(signal.SIGTERM, before)
    _compare(chaos)


def _train(chaos: "Chaos", kills: int) -> None:
    """Trains without faults, and with as many as asked for."""
    chaos.finish(chaos.reference)
    while (done := sum(entry["hit"] for entry in chaos.entries)) < kills:
        entry = chaos.inject()
        print(f"{done + entry['hit']}/{kills}  {json.dumps(entry)}", flush=True)
    chaos.finish(chaos.workdirs()[-1])


def _compare(chaos: "Chaos") -> None:
    """Prints the table of faults and the hashes; exits with `EXIT_DIFFERENT` if the results differ."""
    from codi_jax.parallel.tables import table

    counts = collections.Counter((entry["fault"], entry["during"]) for entry in chaos.entries if entry["hit"])
    rows = [(fault, during, str(count)) for (fault, during), count in sorted(counts.items())]
    print(table([("fault", "during", "times"), *rows, ("all", "", str(counts.total()))], right=(2,)))
    expected, *results = (result_of(workdir) for workdir in (chaos.reference, *chaos.workdirs()))
    print(f"{expected[0]}  without faults", *(f"{digest}  with faults" for digest, _ in results), sep="\n")
    if any(result != expected for result in results):
        print("parameters or metrics differ", flush=True)
        sys.exit(EXIT_DIFFERENT)
    print("parameters and metrics are equal")


class Chaos:
    """The runs in a directory.

    Attributes:
      reference: the workdir of the run without faults.
      entries: of faults.jsonl, {"fault", "during", "hit", "code", "process", "steps", "seconds"}.

    Raises:
      ConfigError: the directory holds runs of other arguments.
    """

    def __init__(self, directory: Path, train: Sequence[str], seed: int, processes: int):
        """`train` are the arguments of `codi-jax train` without --workdir."""
        self._directory, self._train, self._seed, self._processes = directory.absolute(), train, seed, processes
        self.reference, self._record = self._directory / "uninterrupted", self._directory / "faults.jsonl"
        self._directory.mkdir(parents=True, exist_ok=True)
        if not self._record.exists():
            self._record.write_text(json.dumps([*train, seed, processes]) + "\n")
        given, *entries = map(json.loads, self._record.read_text().splitlines())
        if given != [*train, seed, processes]:
            raise ConfigError(f"{directory} holds runs of other arguments; choose another --workdir")
        self.entries: list[dict[str, Any]] = entries

    def workdirs(self) -> list[Path]:
        """The workdirs of the runs with faults; the last one is not finished."""
        finished = sum(entry["code"] == 0 for entry in self.entries)
        return [self._directory / f"faults-{k}" for k in range(finished + 1)]

    def finish(self, workdir: Path) -> None:
        """Trains to the end; exits with `EXIT_DIFFERENT` if that fails."""
        with self._started(workdir) as processes:
            for process in processes:
                self._check(workdir, process.wait(), (0,))

    def inject(self) -> dict[str, Any]:
        """Trains until the next fault and returns its entry; "hit" is false if the run ended before.

        Exits with `EXIT_DIFFERENT` if the process does not end as this fault should end it.
        """
        workdir, rng = self.workdirs()[-1], random.Random(f"{self._seed}/{len(self.entries)}")
        fault = rng.choice(SIGNALS + INSIDE)
        victim = rng.randrange(self._processes) if fault in SIGNALS else 0  # process 0 writes
        inside = (fault, str(rng.randrange(1, 40))) if fault in INSIDE else ()
        incomplete, steps, begun = unfinished(workdir), logged_steps(workdir), time.monotonic()
        with self._started(workdir, inside) as processes:
            during = DURING[fault] if inside else self._signal(fault, processes[victim], workdir, rng)
            code = processes[victim].wait()
            deadline = time.monotonic() + GRACE
            while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
                time.sleep(0.1)
        expected = ENDS.get(fault, (-signal.SIGKILL,))
        self._check(workdir, code, (0, *expected))
        if not inside and unfinished(workdir) - incomplete:
            during = DURING["checkpoint"]
        entry = {"fault": fault, "during": during, "hit": code in expected, "code": code, "process": victim}
        entry |= {"steps": logged_steps(workdir) - steps, "seconds": round(time.monotonic() - begun, 1)}
        self.entries.append(entry)
        with self._record.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        return entry

    def _signal(self, fault: str, process: subprocess.Popen, workdir: Path, rng: random.Random) -> str:
        """Sends the signals of a fault at random moments; returns what the process was doing."""
        during = "start"
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0, 6))
        else:
            during = "steps"
            _wait_for_step(workdir, process)
            time.sleep(rng.uniform(0, 4))
        if fault == "suspend":
            process.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.5, 3))
            process.send_signal(signal.SIGCONT)
            time.sleep(rng.uniform(0, 4))
        process.send_signal(signal.SIGTERM if fault == "terminate" else signal.SIGKILL)
        return during

    @contextlib.contextmanager
    def _started(self, workdir: Path, inside: Sequence[str] = ()) -> Iterator[list[subprocess.Popen]]:
        """The processes of one session; at the end of the block those that still run are killed."""
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(self._directory / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        if self._processes > 1:
            environment |= {"CODI_COORDINATOR": f"localhost:{_free_port()}", "CODI_PROCESSES": str(self._processes)}
        module = ("codi_jax.cli.faults", *inside) if inside else ("codi_jax.cli",)
        command = [sys.executable, "-m", *module, "train", f"--workdir={workdir}", "--quiet", *self._train]
        plain = [sys.executable, "-m", "codi_jax.cli", *command[command.index("train") :]]
        processes = []
        with _output_of(workdir).open("wb") as output:
            for k in range(self._processes):
                index = {"CODI_PROCESS": str(k)} if self._processes > 1 else {}
                processes.append(
                    subprocess.Popen(plain if k else command, env=environment | index, stdout=output, stderr=output)
                )
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.wait()

    def _check(self, workdir: Path, code: int, expected: Sequence[int]) -> None:
        """Exits if a process has ended in a way that no fault explains."""
        output = _output_of(workdir).read_text(errors="replace")
        if code not in expected or (self._processes == 1 and "Traceback" in output):
            print(output[-3000:], file=sys.stderr)
            print(f"exit code {code}, expected {' or '.join(map(str, expected))}", file=sys.stderr, flush=True)
            sys.exit(EXIT_DIFFERENT)


def _output_of(workdir: Path) -> Path:
    return workdir.with_name(f"{workdir.name}.log")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _wait_for_step(workdir: Path, process: subprocess.Popen) -> None:
    """Waits until the process logs a step, or ends."""
    least = 1 << 62  # a file of metrics is first truncated to the checkpoint, then it grows
    while process.poll() is None:
        size = sum(path.stat().st_size for path in workdir.glob("stages/*/metrics.jsonl"))
        if size > least:
            return
        least = size
        time.sleep(0.01)


def unfinished(workdir: Path) -> set[int]:
    """The incomplete checkpoints by inode, which differs if a step is written again."""
    from codi_jax.checkpoint import index

    directories = workdir.glob("stages/*/checkpoints/*")
    return {path.stat().st_ino for path in directories if not (path / index.NAME).exists()}


def logged_steps(workdir: Path) -> int:
    """The number of lines of metrics, of all stages."""
    return sum(path.read_bytes().count(b"\n") for path in workdir.glob("stages/*/metrics.jsonl"))


def result_of(workdir: Path) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """The SHA-256 of the parameters of all finished stages, and their metrics except those of clocks."""
    from codi_jax.checkpoint import load_params
    from codi_jax.parallel import paths
    from codi_jax.train.recipe import load_run

    finished, digest, metrics = load_run(workdir), hashlib.sha256(), {}
    for name in (n for n in finished.finished_stages() if finished.stage(n).trains):
        for path, leaf in sorted(paths.flatten(load_params(str(finished.directory(name) / "params"))).items()):
            digest.update(f"{name}/{path} {leaf.dtype} {leaf.shape}".encode() + leaf.tobytes())
        lines = map(json.loads, (finished.directory(name) / "metrics.jsonl").read_text().splitlines())
        metrics[name] = [{key: value for key, value in line.items() if key not in OF_CLOCKS} for line in lines]
    if not metrics:
        refuse(f"{workdir}: no stage that trains is finished")
    return digest.hexdigest(), metrics
