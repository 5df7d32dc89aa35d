"""The model of `configs/codi.py` at full size on this machine: random weights, everything generated together.

    python -m benchmarks.full_size --steps=2 --json=out/full_size.json

Prints parameters by component, the time to trace all shapes, and then for every phase of one joint generation seconds
and the peak of anonymous memory (Linux). The first step of the sampler holds the compilation of its programs; what
follows is the time of a step. Outputs are looked at for being finite, since random weights show nothing else.
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

from codi_jax.codi import CoDi
from codi_jax.config import from_dict
from codi_jax.parallel.tables import size, table
from codi_jax.pipeline import SAMPLED, Generator, save
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.recipe import open_run
from codi_jax.train.variables import component_reader
from configs import codi as paper


class Memory:
    """Watches the anonymous memory of this process (Linux)."""

    def __init__(self) -> None:
        self._peak = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
            self._peak = max(self._peak, int(line.split()[1]) << 10)
            time.sleep(0.05)

    def peak(self) -> int:
        """Bytes at the highest since the last call."""
        time.sleep(0.1)
        seen, self._peak = self._peak, 0
        return seen


class Phases:
    """Seconds and memory of what is done one after the other."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._memory, self._since, self._name = Memory(), time.perf_counter(), "trace all shapes"

    def __call__(self, what: str, done: int = 0, of: int = 0) -> None:
        """Ends the phase that runs, and begins another."""
        seconds, peak = time.perf_counter() - self._since, self._memory.peak()
        self.rows.append({"phase": self._name, "seconds": round(seconds, 2), "peak_bytes": peak})
        if self._name:
            print(f"{self._name}: {seconds:.1f} s, {size(peak)}", flush=True)
        self._name = what if not of else f"step {done + 1} of {of}" + ("" if done else ", and compilation")
        self._since = time.perf_counter()


def _sampled(codi: CoDi, names: Iterable[str]) -> set[str]:
    """The components that sampling these modalities takes."""
    return {codi[name].components[role] for name in names for role in SAMPLED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2, help="of the sampler (2)")
    parser.add_argument("--to", default="text,image,audio,video", help="outputs, generated together")
    parser.add_argument("--size", type=int, default=256, help="pixels a side (256)")
    parser.add_argument("--frames", type=int, default=8, help="of a clip (8)")
    parser.add_argument("--dtype", default="bfloat16", help="of parameters and networks (bfloat16)")
    parser.add_argument("--out", type=Path, default=Path("out/full_size"), help="directory of what is generated")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args()

    phases = Phases()
    config = paper.get_config(f"size={args.size},frames={args.frames},dtype={args.dtype},tokenizers=digit_world")
    config.generate.steps = args.steps
    run = open_run(config, None)
    codi = run.codi
    parameters = {c: sum(math.prod(x.shape) for x in jax.tree.leaves(codi.shapes(c))) for c in codi.component_names()}
    phases("")
    sampled = {name: sum(parameters[c] for c in _sampled(codi, (name,))) for name in codi.modalities}
    rows = [("component", "parameters"), *((c, f"{n:,}") for c, n in parameters.items())]
    rows += [(f"U-Net, V and X of {name}", f"{n:,}") for name, n in sampled.items()]
    rows += [("all that is sampled with", f"{sum(parameters[c] for c in _sampled(codi, codi.modalities)):,}")]
    print(table(rows, right=(1,)))

    generator = Generator(codi, from_dict(GenerateConfig, config.generate, "generate"))
    outputs = codi.order(args.to.split(","))
    read = component_reader(run, random=True)
    begun = time.perf_counter()
    values = generator.generate(read, outputs, {}, 1, jax.random.key(0), progress=phases)
    phases("")
    seconds = time.perf_counter() - begun
    for name, (value,) in values.items():
        if not isinstance(value, str) and not np.isfinite(np.asarray(value, np.float32)).all():
            sys.exit(f"{name}: not finite")
    save(codi, values, args.out)
    rows = [r for r in phases.rows if r["phase"]]
    shown = [(r["phase"], f"{r['seconds']:.1f}", size(r["peak_bytes"])) for r in rows]
    print(table([("phase", "seconds", "peak of anonymous memory"), *shown], right=(1, 2)))
    peak = max(r["peak_bytes"] for r in rows)
    print(f"{', '.join(outputs)} in {args.out} after {seconds:.0f} s; at most {size(peak)}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "parameters": parameters, "outputs": outputs, "steps": args.steps, "dtype": args.dtype, "phases": rows,
            "seconds": seconds, "peak_bytes": peak,
        }  # fmt: skip
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
