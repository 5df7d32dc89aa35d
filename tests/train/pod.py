"""Tools of the tests of several processes; as a program, `codi-jax` with a look at what reaches the devices.

    python -m tests.train.pod FOLDER train --workdir=…

leaves in FOLDER the process id of each process, and of each step the rows of its batch that lie on the devices of a
process. The programs are compiled with little optimization.
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
from codi_jax.train import loop
from codi_jax.train.loop import Stage
from tests import toy

ROOT = Path(__file__).parents[2]
STAGE = "judge.image"  # which needs no other and compiles fastest


def config(steps: int, *stages: str) -> ConfigDict:
    """Some stages of the demo's recipe for the toy (STAGE if none are named), split over all devices throughout."""
    tree, judging = toy.recipe(), toy.judges_config().to_dict()
    tree["stages"]["judge"], tree["sources"]["judge"] = judging["stages"]["judge"], judging["sources"]["judge"]
    chosen: dict[str, dict] = {}
    for name in stages or (STAGE,):
        group, leaf = name.split(".")
        stage = {**tree["stages"][group][leaf], "log_every": 1, "num_stats_samples": 8}
        chosen.setdefault(group, {})[leaf] = {**stage, "steps": steps} if stage["steps"] else stage
    sources = {name: {**source, "size": 36} for name, source in tree["sources"].items()}
    split = {"mesh": {"data": 1, "fsdp": -1}, "sharding": {"fsdp_min_bytes": 256}}
    return ConfigDict({**tree, "model": toy.model(), "sources": sources, "stages": chosen, **split})


def watch(folder: Path, patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Has every batch that is placed from now on leave its rows in `folder`, by step and process."""
    folder.mkdir(parents=True, exist_ok=True)
    place, batches, steps = loop.place_batch, Stage.batches, itertools.count()

    def begin(stage: Stage, start: int) -> Any:
        nonlocal steps
        steps = itertools.count(start)
        return batches(stage, start)

    def seen(batch: Any, mesh: Any) -> Any:
        placed, rows = place(batch, mesh), {}
        for path, leaf in paths.flatten(placed).items():
            for shard in leaf.addressable_shards:
                rows[f"{path}@{shard.index[0].start or 0}"] = np.asarray(shard.data)
        file = folder / f"{next(steps):04d}-{jax.process_index()}-of-{jax.process_count()}"
        np.savez(file.with_suffix(".new.npz"), **rows)
        os.replace(file.with_suffix(".new.npz"), file.with_suffix(".npz"))
        return placed

    patch(Stage, "batches", begin)
    patch(loop, "place_batch", seen)


def rows_seen(folder: Path) -> dict[int, dict[int, dict[str, np.ndarray]]]:
    """What `watch` left: step -> number of processes -> path -> the global batch that they held together."""
    blocks: dict[tuple[int, int], dict[str, dict[int, np.ndarray]]] = {}
    for file in sorted(folder.glob("*.npz")):
        step, _, _, processes = file.stem.split("-")
        found = blocks.setdefault((int(step), int(processes)), {})
        with np.load(file) as saved:
            for key, rows in saved.items():
                path, start = key.rsplit("@", 1)
                found.setdefault(path, {})[int(start)] = rows
    out: dict[int, dict[int, dict[str, np.ndarray]]] = {}
    for (step, processes), found in blocks.items():
        whole = {path: np.concatenate([rows[k] for k in sorted(rows)]) for path, rows in found.items()}
        out.setdefault(step, {})[processes] = whole
    return out


class Pod:
    """A run of several processes, by `launch/local_pod.py`."""

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
        """Its exit code."""
        try:
            return self.process.wait(timeout=seconds)
        finally:
            if self.process.poll() is None:
                self.process.terminate()

    def ends(self, code: int = 0, seconds: float = 900) -> None:
        """Waits for it, and holds its exit code against the one that is expected."""
        assert self.wait(seconds) == code, self.log.read_text()[-3000:]

    def signal(self, process: int, number: int, when: Callable[[], bool]) -> float:
        """Sends a signal to one of its processes as soon as something is so; the time at which it did."""
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
