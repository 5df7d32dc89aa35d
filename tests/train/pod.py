"""Helpers for tests with several processes; as a program, `codi-jax` that also records batches.

    python -m tests.train.pod FOLDER train --workdir=…

writes to FOLDER the id of each process and, for each step, the rows of the batch on the devices of each process.
Programs are compiled with little optimization.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codi_jax import cli
from codi_jax.parallel import paths
from codi_jax.train import trainer
from codi_jax.train.stage import Stage
from tests import toy

ROOT = Path(__file__).parents[2]
STAGE = "judge.image"  # depends on no other stage and compiles fastest


def config(steps: int, *stages: str) -> ConfigDict:
    """Some stages of the demo recipe for the toy (STAGE by default), with parameters sharded over all devices."""
    tree, judging = toy.recipe(), toy.judges_config().to_dict()
    tree["stages"]["judge"], tree["sources"]["judge"] = judging["stages"]["judge"], judging["sources"]["judge"]
    selected: dict[str, dict] = {}
    for name in stages or (STAGE,):
        group, leaf = name.split(".")
        stage = {**tree["stages"][group][leaf], "log_every": 1, "num_stats_samples": 8}
        selected.setdefault(group, {})[leaf] = {**stage, "steps": steps} if stage["steps"] else stage
    sources = {name: {**source, "size": 36} for name, source in tree["sources"].items()}
    split = {"mesh": {"data": 1, "fsdp": -1}, "sharding": {"fsdp_min_bytes": 256}}
    return ConfigDict({**tree, "model": toy.model(), "sources": sources, "stages": selected, **split})


def watch(folder: Path, patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Makes `place_batch` also save the rows of every batch in `folder`, by step and process."""
    folder.mkdir(parents=True, exist_ok=True)
    place, batches, steps = trainer.place_batch, Stage.batches, itertools.count()

    def counted(stage: Stage, start: int) -> Any:
        nonlocal steps
        steps = itertools.count(start)
        return batches(stage, start)

    def recorded(batch: Any, mesh: Any) -> Any:
        placed, rows = place(batch, mesh), {}
        for path, leaf in paths.flatten(placed).items():
            for shard in leaf.addressable_shards:
                rows[f"{path}@{shard.index[0].start or 0}"] = np.asarray(shard.data)
        file = folder / f"{next(steps):04d}-{jax.process_index()}-of-{jax.process_count()}"
        np.savez(file.with_suffix(".new.npz"), **rows)
        os.replace(file.with_suffix(".new.npz"), file.with_suffix(".npz"))
        return placed

    patch(Stage, "batches", counted)
    patch(trainer, "place_batch", recorded)


def rows_seen(folder: Path) -> dict[int, dict[int, dict[str, np.ndarray]]]:
    """The batches that `watch` saved: step -> number of processes -> path -> the global batch."""
    blocks: dict[tuple[int, int], dict[str, dict[int, np.ndarray]]] = {}
    for file in sorted(folder.glob("*.npz")):
        step, _, _, processes = file.stem.split("-")
        arrays = blocks.setdefault((int(step), int(processes)), {})
        with np.load(file) as saved:
            for key, rows in saved.items():
                path, start = key.rsplit("@", 1)
                arrays.setdefault(path, {})[int(start)] = rows
    out: dict[int, dict[int, dict[str, np.ndarray]]] = {}
    for (step, processes), arrays in blocks.items():
        whole = {path: np.concatenate([rows[k] for k in sorted(rows)]) for path, rows in arrays.items()}
        out.setdefault(step, {})[processes] = whole
    return out


class Pod:
    """A run of several processes, started by `launch/local_pod.py`."""

    def __init__(self, folder: Path, workdir: Path, processes: int, devices: int, *arguments: str):
        self.folder, self.log = folder, folder / f"{processes}.log"
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "compiled"),
        }
        command = [sys.executable, "-m", "tests.train.pod", str(folder), "train", f"--workdir={workdir}", "--quiet"]
        launcher = [sys.executable, "launch/local_pod.py", f"--processes={processes}", f"--devices={devices}", "--"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*launcher, *command, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def wait(self, seconds: float = 900) -> int:
        """Waits for the launcher and returns its exit code."""
        try:
            return self.process.wait(timeout=seconds)
        finally:
            if self.process.poll() is None:
                self.process.terminate()

    def ends(self, code: int = 0, seconds: float = 900) -> None:
        """Waits for the launcher and asserts its exit code."""
        assert self.wait(seconds) == code, self.log.read_text()[-3000:]

    def signal(self, process: int, number: int, when: Callable[[], bool]) -> float:
        """Sends a signal to one process as soon as `when()` is true; returns the time."""
        while not when():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.01)
        os.kill(int((self.folder / f"pid-{process}").read_text()), number)
        return time.monotonic()


def main() -> None:
    """Entry point."""
    folder = Path(sys.argv[1])
    watch(folder)
    (folder / f"pid-{os.environ['CODI_PROCESS']}").write_text(str(os.getpid()))
    cli.main(sys.argv[2:])


if __name__ == "__main__":
    main()
