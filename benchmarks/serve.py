"""100 clients of the playground at once, and hostile files meanwhile: throughput, waiting times, peak memory.

    python -m benchmarks.serve --clients=100 --steps=3 --json=out/serve.json

A process serves the packaged model (`codi-jax serve`). After one request that compiles, all clients ask at the same
moment for an image, each with a seed of its own. Others upload files that are damaged, too large or say they are, or of
another kind, and ask for something with them. A row has the requests that were answered and refused, how many a minute,
the seconds from asking to the result, and the resident memory of the server with its decoder: before the clients, and
the most while they were there. The last lines say whether every request was answered, every hostile one refused,
clients had one turn each, and memory stayed within the bound.
"""

import argparse
import concurrent.futures
import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import machine, warn_of_load, write
from benchmarks.serve_client import Answer, PageClient, file_data

ROOT = Path(__file__).parents[1]
MORE_MIB = 1024  # memory that clients may cost
HOSTILE = 12


@contextlib.contextmanager
def serving(*command: str) -> Iterator[tuple[int, str]]:
    """The process of a command that prints its address when it serves, and that address."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url.startswith("http"):
            raise RuntimeError(f"{' '.join(command)}: does not serve")
        yield process.pid, url
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        process.kill()
        process.wait()
        process.stdout.close()


def resident_mib(pid: int) -> float:
    """Resident memory of a process and its children, in MiB."""
    total = 0
    for own in (pid, *_children(pid)):
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{own}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total / 2**20


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


class Memory:
    """The most memory of a process during a block."""

    def __init__(self, pid: int):
        self._pid, self._ended = pid, threading.Event()
        self.most = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            self.most = max(self.most, resident_mib(self._pid))


def hostile_files() -> list[bytes]:
    """Files that are not what they say, empty, cut, or large."""
    rng = np.random.default_rng(0)
    png = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x06\x00\x00\x00"
    return [
        *(b"", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", rng.bytes(100_000), png + bytes(1000)),
        *(b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(40), b"\x00\x00\x00\x18ftypmp42" + rng.bytes(50_000)),
    ]


def hostile(url: str, k: int) -> Answer:
    """One hostile request: with a file of `hostile_files`, one that is too large, or a path of the machine."""
    client, files = PageClient(url), hostile_files()
    kinds = ("audio", "video")
    if k % 4 == 2:
        path = client.upload(bytes(30_000_000)) or "/etc/passwd"
    elif k % 4 == 3:
        path = ("/etc/passwd", "http://127.0.0.1:9/secret", "/proc/self/environ")[k % 3]
    else:
        path = client.upload(files[k % len(files)]) or "/etc/passwd"
    return client.generate(**{f"value_{kinds[k % 2]}": file_data(path), "to": ["image"]})


def measure(url: str, pid: int, clients: int, attacks: int, **values: Any) -> dict[str, Any]:
    """Lets clients and attackers ask at once.

    Args:
      url: of the playground.
      pid: of its process.
      clients: how many ask, each once.
      attacks: how many ask for something hostile.
      **values: of the controls, see `PageClient.generate`.
    """
    before, start = resident_mib(pid), threading.Barrier(clients + attacks)

    def ask(k: int) -> Answer:
        client = PageClient(url)
        start.wait()
        return client.generate(**values, seed=k)

    def attack(k: int) -> Answer:
        start.wait()
        return hostile(url, k)

    with Memory(pid) as memory, concurrent.futures.ThreadPoolExecutor(clients + attacks) as pool:
        asked = [pool.submit(ask, k) for k in range(clients)]
        attacked = [pool.submit(attack, k) for k in range(attacks)]
        begun = time.perf_counter()
        answers = [future.result() for future in asked]
        seconds = time.perf_counter() - begun
        refused = [future.result() for future in attacked]
    waited = sorted(answer.seconds for answer in answers if answer.token)
    return {
        "clients": clients,
        "answered": len(waited),
        "errors": sorted({answer.error for answer in answers if not answer.token}),
        "a_minute": 60 * len(waited) / seconds,
        "median_s": statistics.median(waited) if waited else None,
        "longest_s": waited[-1] if waited else None,
        "places_fall": all(list(a.places) == sorted(a.places, reverse=True) for a in answers),
        "hostile": attacks,
        "hostile_refused": sum(not answer.token for answer in refused),
        "hostile_errors": sorted({answer.error for answer in refused}),
        "before_mib": before,
        "most_mib": memory.most,
    }


def to_table(rows: list[dict[str, Any]]) -> str:
    """Rows as a table."""
    head = "| clients | answered | a minute | median, s | longest, s | hostile | refused | before, MiB | most, MiB |"
    lines = [head, "|" + "---|" * 9]
    for row in rows:
        times = [f"{row[key]:.1f}" if row[key] is not None else "-" for key in ("a_minute", "median_s", "longest_s")]
        memory = [f"{row[key]:.0f}" for key in ("before_mib", "most_mib")]
        cells = (row["clients"], row["answered"], *times, row["hostile"], row["hostile_refused"], *memory)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def faults(row: dict[str, Any]) -> list[str]:
    """What is wrong with a row, as lines; none if nothing is."""
    checks = {
        f"{row['clients'] - row['answered']} clients were not answered: {row['errors']}": row["answered"]
        == row["clients"],
        "a place in the queue went up": row["places_fall"],
        f"hostile requests were answered: {row['hostile_errors']}": row["hostile_refused"] == row["hostile"],
        f"memory grew by more than {MORE_MIB} MiB": row["most_mib"] - row["before_mib"] <= MORE_MIB,
        "an error tells a path": not any("/tmp" in e or "/etc" in e for e in (*row["errors"], *row["hostile_errors"])),
    }
    return [line for line, holds in checks.items() if not holds]


def main(arguments: list[str] | None = None, serve: Callable[..., Any] = serving) -> int:
    """Prints the table and what is wrong; returns how much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--to", nargs="+", default=["image"])
    parser.add_argument("--hostile", type=int, default=HOSTILE)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    before, rows = machine(), []
    warn_of_load(before)
    values = {"value_text": "a red seven", "to": args.to, "steps": args.steps}
    with serve("-m", "codi_jax.cli", "serve", "--port=0") as (pid, url):
        if error := PageClient(url).generate(**values).error:  # compiles
            raise RuntimeError(error)
        for clients in args.clients:
            rows.append(measure(url, pid, clients, args.hostile if clients == max(args.clients) else 0, **values))
            write(args.json, before, rows)
    print(to_table(rows))
    wrong = [line for row in rows for line in faults(row)]
    print("\n".join(wrong) if wrong else "every client was answered in turn, every hostile request refused")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
