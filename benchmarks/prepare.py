"""Samples a second that a host prepares for the networks, as the CPUs it may use grow: spectrograms, resizing.

    python -m benchmarks.prepare --json=out/prepare.json

Raw samples of the sizes of a config (`codi`: the paper's) are made media by `Modality.prepare` through
`data.source.transform_rows`, as the data threads do it in training. Reading and decoding are not in it; for them see
`benchmarks.data`. Each number of CPUs is a process of its own, and they take turns.

    scaling      rate over the rate of one CPU
    core ms      processor time a sample, all threads, on one CPU
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import machine, median, number, summary, warn_of_load, write
from benchmarks.workers import Worker, take_turns
from codi_jax.parallel.tables import table

BATCH = {"image": 64, "audio": 16, "video": 16}


class Host:
    """Prepares batches of the modalities of a config.

    Args:
      config: a config file or name.
    """

    def __init__(self, config: str):
        from codi_jax.cli.common import read_config
        from codi_jax.train.recipe import open_run

        self._codi = open_run(read_config([f"--config={config}"]), None).codi
        self._samples = {name: self._make(name, BATCH[name]) for name in BATCH if name in self._codi.modalities}

    def names(self) -> list[str]:
        """The modalities."""
        return list(self._samples)

    def _make(self, name: str, count: int) -> Any:
        rng, sizes = np.random.default_rng(0), self._codi[name].value_format
        if name == "audio":
            return {name: rng.integers(-20_000, 20_000, (count, sizes["samples"]), np.int16)}
        frames = (sizes["frames"],) if "frames" in sizes else ()
        return {name: rng.integers(0, 256, (count, *frames, sizes["size"], sizes["size"], 3), np.uint8)}

    def prepare(self, name: str) -> None:
        """Prepares a batch of a modality."""
        from codi_jax.data.source import transform_rows

        transform_rows(self._codi[name].prepare, self._samples[name])


def measure(workers: dict[int, Worker], name: str, repeats: int) -> dict[str, Any]:
    """A row: samples a second by the number of CPUs."""
    calls = {str(cores): (lambda w=worker: w.time("prepare", name)) for cores, worker in workers.items()}
    for call in calls.values():
        call()
    timings = take_turns(calls, repeats)
    rates = {cores: BATCH[name] / median(times) for cores, times in timings.items()}
    core_ms = 1e3 * summary(timings[min(timings, key=int)])["core_s"] / BATCH[name]
    return {"modality": name, "batch": BATCH[name], "rates": rates, "core_ms": core_ms}


def to_table(rows: list[dict[str, Any]]) -> str:
    """A line for each modality."""
    cores = list(rows[0]["rates"])
    first = min(cores, key=int)
    lines = [("modality", "core ms", *(f"{c} CPUs/s" for c in cores), *(f"scaling {c}" for c in cores if c != first))]
    for row in rows:
        rates = row["rates"]
        scaling = [number(rates[c] / rates[first]) for c in cores if c != first]
        lines.append((row["modality"], number(row["core_ms"]), *(number(rates[c], "{:,.0f}") for c in cores), *scaling))
    return table(lines, right=range(1, len(lines[0])))


def main(arguments: Sequence[str] | None = None) -> None:
    available = len(os.sched_getaffinity(0))
    powers = [1 << k for k in range(available.bit_length())]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="codi", help="whose sizes are prepared (codi)")
    parser.add_argument("--cores", default=",".join(map(str, powers)), help="numbers of CPUs (1, 2, 4, … as there are)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each (5)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(arguments)
    warn_of_load(before := machine())
    serve: dict[str, Any] = {"environment": {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}}  # as the program
    workers = {
        int(n): Worker("benchmarks.prepare:Host", args.config, threads=int(n), **serve) for n in args.cores.split(",")
    }
    rows = []
    for name in next(iter(workers.values())).call("names"):
        rows.append(measure(workers, name, args.repeats))
        write(args.json, before, rows)
    for worker in workers.values():
        worker.close()
    print(to_table(rows))


if __name__ == "__main__":
    main()
