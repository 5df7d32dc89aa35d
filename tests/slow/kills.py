"""SIGKILL at random moments of a tiny run: in its start, its steps, its checkpoint writes; again and again to its end.

    python -m tests.slow.kills --kills=50

Then the same stage once more without interruption, and both have to be alike to the last bit: parameters, and every
line of their metrics but for the clock's.
"""

import argparse
import json
import random
import signal
import tempfile
import time
from pathlib import Path

from codi_jax.checkpoint import load_params, record
from tests import toy
from tests.command import finish, log, start

STAGE = "codec.text"
# Few and quick steps between checkpoints, so that a write is under way most of the time.
CONFIG = (
    "--config=configs/two.py:tiny",
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
    """The checkpoints that no writer has finished, by inode: another of the same step is another."""
    checkpoints = workdir / "stages" / STAGE / "checkpoints"
    found = checkpoints.iterdir() if checkpoints.exists() else ()
    return {path.stat().st_ino for path in found if not (path / record.NAME).exists()}


def _kill(workdir: Path, cache: Path, rng: random.Random) -> str:
    """Starts a process and kills it; says in what it was."""
    left = _unfinished(workdir)  # by the one that was killed before
    process = start(workdir, cache, *TRAIN)
    metrics = workdir / "stages" / STAGE / "metrics.jsonl"
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 6))
        where = "start"
    else:
        least = 1 << 62  # the file gets shorter, where steps are taken again, and then grows
        while process.poll() is None and (size := metrics.stat().st_size if metrics.exists() else 0) <= least:
            least = size
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 4))
        where = "steps"
    if process.poll() is not None:
        raise RuntimeError(f"ended by itself, code {process.returncode}: {log(workdir).read_text()[-2000:]}")
    process.send_signal(signal.SIGKILL)
    process.wait()
    return "checkpoint writes" if _unfinished(workdir) - left else where


def main(kills: int = 50, seed: int = 0) -> dict[str, int]:
    """Kills so many times, finishes, compares; returns how many kills came in what.

    Raises:
      AssertionError: the ends differ.
    """
    rng, counts = random.Random(seed), {"start": 0, "steps": 0, "checkpoint writes": 0}
    with tempfile.TemporaryDirectory(prefix="codi-jax-kills-") as folder:
        whole, broken, cache = (Path(folder) / name for name in ("whole", "broken", "compiled"))
        for n in range(kills):
            counts[_kill(broken, cache, rng)] += 1
            reached = len(_lines(broken))
            print(f"kill {n + 1}/{kills}: {counts}, {reached} steps logged", flush=True)
        finish(broken, cache, *TRAIN)
        finish(whole, cache, *TRAIN)
        a, b = (load_params(str(d / "stages" / STAGE / "params")) for d in (whole, broken))
        assert toy.same(a, b), "the parameters differ"
        assert _metrics(whole) == _metrics(broken), "the metrics differ"
    print(f"{sum(counts.values())} kills ({counts}); parameters and metrics are those of the uninterrupted run")
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many (50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    main(**vars(parser.parse_args()))
