"""Joint generation with the full-size model of `configs/codi.py` on this machine, with random weights.

    python -m benchmarks.full_size --steps=2 --json=out/full_size.json

Prints the parameters by component, the time to trace all shapes, and the seconds and the peak of anonymous memory
(Linux) of every phase of one joint generation. The first step of the sampler includes the compilation of its programs.
Outputs are checked for finite values.
"""

import argparse
import json
import math
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codi_jax.codi import CoDi
from codi_jax.config import from_dict
from codi_jax.parallel.tables import size, table
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.files import save
from codi_jax.sampling.generator import SAMPLED, Generator
from codi_jax.train.recipe import open_run
from codi_jax.train.variables import component_reader
from configs import codi as paper


class Memory:
    """Samples the anonymous memory of this process in a thread (Linux)."""

    def __init__(self) -> None:
        self._peak = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
            self._peak = max(self._peak, int(line.split()[1]) << 10)
            time.sleep(0.05)

    def peak(self) -> int:
        """Peak in bytes since the last call."""
        time.sleep(0.1)
        peak, self._peak = self._peak, 0
        return peak


class Phases:
    """A progress callback that records seconds and memory of consecutive phases."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._memory, self._since, self._name = Memory(), time.perf_counter(), "trace all shapes"

    def __call__(self, activity: str, done: int = 0, total: int = 0, /) -> None:
        """Ends the current phase and starts another."""
        seconds, peak = time.perf_counter() - self._since, self._memory.peak()
        self.rows.append({"phase": self._name, "seconds": round(seconds, 2), "peak_bytes": peak})
        if self._name:
            print(f"{self._name}: {seconds:.1f} s, {size(peak)}", flush=True)
        self._name = activity if not total else f"step {done + 1} of {total}" + ("" if done else ", and compilation")
        self._since = time.perf_counter()


def _sampled(codi: CoDi, names: Iterable[str]) -> set[str]:
    """The components that the sampler of these modalities uses."""
    return {codi[name].components[role] for name in names for role in SAMPLED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2, help="sampling steps (2)")
    parser.add_argument("--to", default="text,image,audio,video", help="outputs to generate together")
    parser.add_argument("--size", type=int, default=256, help="height and width of images and frames, in pixels (256)")
    parser.add_argument("--frames", type=int, default=8, help="frames of a video (8)")
    parser.add_argument("--dtype", default="bfloat16", help="dtype of parameters and computation (bfloat16)")
    parser.add_argument("--out", type=Path, default=Path("out/full_size"), help="directory of the generated files")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()

    phases = Phases()
    config = paper.get_config(f"size={args.size},frames={args.frames},dtype={args.dtype},tokenizers=digit_world")
    generate = config.generate
    assert isinstance(generate, ConfigDict)
    generate.steps = args.steps
    run = open_run(config, None)
    codi = run.codi
    parameters = {c: sum(math.prod(x.shape) for x in jax.tree.leaves(codi.shapes(c))) for c in codi.component_names()}
    phases("")
    sampled = {name: sum(parameters[c] for c in _sampled(codi, (name,))) for name in codi.modalities}
    rows = [("component", "parameters"), *((c, f"{n:,}") for c, n in parameters.items())]
    rows += [(f"U-Net, V and X of {name}", f"{n:,}") for name, n in sampled.items()]
    rows += [("total of these", f"{sum(parameters[c] for c in _sampled(codi, codi.modalities)):,}")]
    print(table(rows, right=(1,)))

    generator = Generator(codi, from_dict(GenerateConfig, config.generate, "generate"))
    outputs = codi.order(args.to.split(","))
    read = component_reader(run, random=True)
    start = time.perf_counter()
    values = generator.generate(read, outputs, {}, 1, jax.random.key(0), progress=phases)
    phases("")
    seconds = time.perf_counter() - start
    for name, (value,) in values.items():
        if not isinstance(value, str) and not np.isfinite(np.asarray(value, np.float32)).all():
            sys.exit(f"{name}: not finite")
    save(codi, values, args.out)
    rows = [r for r in phases.rows if r["phase"]]
    lines = [(r["phase"], f"{r['seconds']:.1f}", size(r["peak_bytes"])) for r in rows]
    print(table([("phase", "seconds", "peak of anonymous memory"), *lines], right=(1, 2)))
    peak = max(r["peak_bytes"] for r in rows)
    print(f"wrote {', '.join(outputs)} to {args.out} in {seconds:.0f} s; peak memory {size(peak)}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "parameters": parameters, "outputs": outputs, "steps": args.steps, "dtype": args.dtype, "phases": rows,
            "seconds": seconds, "peak_bytes": peak,
        }  # fmt: skip
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
