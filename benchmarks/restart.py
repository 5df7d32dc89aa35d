"""Seconds of a restart before its first step that do not depend on the accelerator: start, tracing, lowering.

    python -m benchmarks.restart --json=out/restart.json

A restart finds its compiled programs in the cache of the workdir, but traces and lowers each once to find their keys.
The step of each stage of a config (`codi`: the paper's sizes, with a tokenizer of the package) is traced and lowered
for one device, from shapes alone, in a process of its own.

    start      Python, imports, config
    shapes     the parameters' shapes, the table of what is trained, the optimizer's state
    trace      of the step, with its gradient
    lower      to StableHLO, which the key of the cache is a hash of

What is not in it: reading the checkpoint, and loading the program from the cache.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import machine, warn_of_load, write

PARTS = ("start", "shapes", "trace", "lower")


def measure(config: str, name: str) -> dict[str, float]:
    """The seconds of one stage, in this process."""
    from codi_jax.cli.common import read_config
    from codi_jax.parallel import MeshConfig, make_mesh
    from codi_jax.plan.shapes import step_of
    from codi_jax.train.recipe import open_run

    clock, seconds = time.perf_counter, {}
    run = open_run(read_config([f"--config={config}"]), None)
    import jax

    mesh = make_mesh(MeshConfig(data=1, fsdp=1))
    with jax.set_mesh(mesh):
        begin = clock()
        program, arguments = step_of(run, name, mesh, run.stage(name).batch_size)
        seconds["shapes"] = clock() - begin
        begin = clock()
        traced = program.step.trace(*arguments)
        seconds["trace"] = clock() - begin
        begin = clock()
        traced.lower()
        seconds["lower"] = clock() - begin
    return seconds


def names(config: str) -> list[str]:
    """The stages of a config that train."""
    from codi_jax.cli.common import read_config
    from codi_jax.train.recipe import open_run

    run = open_run(read_config([f"--config={config}"]), None)
    return [name for name in run.order if run.stage(name).trains]


def main(arguments: Sequence[str] | None = None) -> None:
    from codi_jax.parallel.tables import table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="codi:tokenizers=digit_world", help="whose stages are traced (codi)")
    parser.add_argument("--stage", action="append", default=[], help="only this stage (repeatable)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.one:
        print(json.dumps(measure(args.config, args.one)))
        return
    warn_of_load(before := machine())
    rows: list[dict[str, Any]] = []
    for name in args.stage or names(args.config):
        begin = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.restart", f"--config={args.config}", f"--one={name}"]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        seconds = json.loads(child.stdout.splitlines()[-1])
        start = time.perf_counter() - begin - sum(seconds.values())
        rows.append({"stage": name, "start": start, **seconds})
        write(args.json, before, rows)
        print(" ".join(f"{key}={value if key == 'stage' else format(value, '.1f')}" for key, value in rows[-1].items()))
    cells = [(row["stage"], *(f"{row[p]:.1f}" for p in PARTS), f"{sum(row[p] for p in PARTS):.1f}") for row in rows]
    print(table([("stage", *(f"{part}, s" for part in PARTS), "all"), *cells], right=range(1, 6)))


if __name__ == "__main__":
    main()
