"""Sends SIGKILL at random moments of a tiny run: during its start, its steps and its checkpoint writes.

    python -m tests.slow.kills --kills=50

Then runs the same stage without interruption; parameters and all metrics except those of the clock must be equal bit by
bit.
"""

import argparse
import json
import random
import signal
import tempfile
import time
from pathlib import Path

from codi_jax.checkpoint import index, load_params
from tests import toy
from tests.command import finish, log, start

STAGE = "codec.text"
# Few and short steps between checkpoints, so that a write is in progress most of the time.
CONFIG = (
    "--config=demo:tiny",
    f"--config.stages.{STAGE}.steps=2000",
    f"--config.stages.{STAGE}.checkpoint_every=5",
    f"--config.stages.{STAGE}.log_every=1",
    f"--config.stages.{STAGE}.num_stats_samples=64",
)
TRAIN = ("train", *CONFIG, f"--stage={STAGE}", "--quiet")
CLOCK = ("steps_per_second", "data_wait", "flops_per_second")


def _lines(workdir: Path) -> list[str]:
    path = workdir / "stages" / STAGE / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def _metrics(workdir: Path) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCK} for line in _lines(workdir)]


def _unfinished(workdir: Path) -> set[int]:
    """The incomplete checkpoints by inode, which differs if a step is written again."""
    checkpoints = workdir / "stages" / STAGE / "checkpoints"
    directories = checkpoints.iterdir() if checkpoints.exists() else ()
    return {path.stat().st_ino for path in directories if not (path / index.NAME).exists()}


def _kill(workdir: Path, cache: Path, rng: random.Random) -> str:
    """Starts a process and kills it; returns the phase in which it was."""
    incomplete = _unfinished(workdir)  # left by the process that was killed before
    process = start(workdir, cache, *TRAIN)
    metrics = workdir / "stages" / STAGE / "metrics.jsonl"
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 6))
        phase = "start"
    else:
        least = 1 << 62  # the file is first truncated to the checkpoint, then it grows
        while process.poll() is None and (size := metrics.stat().st_size if metrics.exists() else 0) <= least:
            least = size
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 4))
        phase = "steps"
    if process.poll() is not None:
        raise RuntimeError(f"ended by itself, code {process.returncode}: {log(workdir).read_text()[-2000:]}")
    process.send_signal(signal.SIGKILL)
    process.wait()
    return "checkpoint writes" if _unfinished(workdir) - incomplete else phase


def main(kills: int = 50, seed: int = 0) -> dict[str, int]:
    """Kills `kills` times, finishes the run and compares; returns phase -> number of kills.

    Raises:
      AssertionError: parameters or metrics differ.
    """
    rng, counts = random.Random(seed), {"start": 0, "steps": 0, "checkpoint writes": 0}
    with tempfile.TemporaryDirectory(prefix="codi-jax-kills-") as folder:
        uninterrupted, killed, cache = (Path(folder) / name for name in ("uninterrupted", "killed", "compiled"))
        for n in range(kills):
            counts[_kill(killed, cache, rng)] += 1
            reached = len(_lines(killed))
            print(f"kill {n + 1}/{kills}: {counts}, {reached} steps logged", flush=True)
        finish(killed, cache, *TRAIN)
        finish(uninterrupted, cache, *TRAIN)
        a, b = (load_params(str(d / "stages" / STAGE / "params")) for d in (uninterrupted, killed))
        assert toy.same(a, b), "the parameters differ"
        assert _metrics(uninterrupted) == _metrics(killed), "the metrics differ"
    print(f"{sum(counts.values())} kills ({counts}); parameters and metrics equal those of the uninterrupted run")
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="number of kills (50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (0)")
    main(**vars(parser.parse_args()))
