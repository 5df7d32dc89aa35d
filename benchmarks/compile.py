"""Cost of compilation and of a step, for the train step of every stage of a config on this machine.

    python -m benchmarks.compile --config=digit_world --stage=joint.text+image --json=out/compile.json

    operations        primitives of the traced program (jaxpr), including nested ones (loops, custom derivatives)
    instructions      instructions of the compiled program (HLO), including fused ones
    fusions           fusions among the instructions; each is a kernel to generate
    trace … compile   core seconds (processor time over all threads), without the compilation cache
    step, step core   wall time and processor time in milliseconds, medians of `--steps` steps after the first on random
                      numbers, without loading of data

`--files` adds, for each stage, the source files of most operations. Stages with objective `encode` have no train step.
If the machine is also doing other work, core seconds remain comparable and wall times do not.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr
from jax.extend.source_info_util import summarize

from codi_jax.cli.common import read_config
from codi_jax.config import ConfigError
from codi_jax.parallel import make_mesh
from codi_jax.parallel.flops import programs_in
from codi_jax.parallel.hlo import Program
from codi_jax.parallel.tables import table
from codi_jax.plan.shapes import step_of
from codi_jax.train.recipe import Run, open_run

COLUMNS = ("operations", "instructions", "fusions", "trace_s", "lower_s", "compile_s", "step_ms", "step_core_ms")


def equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """All equations of a jaxpr, including those of nested jaxprs."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in programs_in(value):
                yield from equations(inner)


def random_like(shape: jax.ShapeDtypeStruct, rng: np.random.Generator) -> jax.Array:
    """Small random numbers for floating-point types, a key for key types, otherwise zeros."""
    if jax.numpy.issubdtype(shape.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    if not jax.numpy.issubdtype(shape.dtype, np.floating):
        return jax.device_put(np.zeros(shape.shape, shape.dtype), shape.sharding)
    return jax.device_put(0.02 * rng.random(shape.shape, np.float32).astype(shape.dtype), shape.sharding)


def measure(run: Run, name: str, steps: int) -> tuple[dict[str, Any], Counter]:
    """The row of a stage, and its operations by source file."""
    mesh, rng = make_mesh(run.config.mesh), np.random.default_rng(0)
    seconds, start = {}, time.process_time()

    def lap(phase: str) -> None:
        nonlocal start
        seconds[phase] = round(time.process_time() - start, 2)
        start = time.process_time()

    with jax.set_mesh(mesh):
        program, arguments = step_of(run, name, mesh, run.stage(name).batch_size)
        lap("shapes")
        traced = program.step.trace(*arguments)
        lap("trace_s")
        lowered = traced.lower()
        lap("lower_s")
        compiled = lowered.compile()
        lap("compile_s")
        state, *others = jax.tree.map(lambda x: random_like(x, rng), arguments)
        durations = []
        for _ in range(steps + 1):
            start, core = time.perf_counter(), time.process_time()
            state, metrics = compiled(state, *others)
            jax.block_until_ready(metrics)
            durations.append((time.perf_counter() - start, time.process_time() - core))
    computations = Program(compiled.as_text() or "").computations.values()
    opcodes = Counter(instruction.opcode for computation in computations for instruction in computation.values())
    files: Counter = Counter()
    for equation in equations(traced.jaxpr.jaxpr):
        files["/".join(Path(summarize(equation.source_info).split(":")[0]).parts[-2:])] += 1
    row = {
        "stage": name,
        "operations": files.total(),
        "instructions": opcodes.total(),
        "fusions": opcodes["fusion"],
        **{column: seconds[column] for column in ("trace_s", "lower_s", "compile_s")},
        **{
            column: round(1e3 * statistics.median(values), 1)
            for column, values in zip(("step_ms", "step_core_ms"), zip(*durations[1:], strict=True), strict=True)
        },
    }
    return row, files


def to_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table with a line of totals."""
    total = {"stage": "total", **{column: round(sum(row[column] for row in rows), 1) for column in COLUMNS[:-2]}}
    lines = [("stage", *(column.replace("_", " ") for column in COLUMNS))]
    for row in (*rows, total):
        lines.append((row["stage"], *(f"{row[c]:,}" if c in row else "" for c in COLUMNS)))
    return table(lines, right=range(1, len(COLUMNS) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", action="append", default=[], metavar="NAME", help="only this stage (repeatable)")
    parser.add_argument("--steps", type=int, default=5, help="number of timed steps, after a first one (5)")
    parser.add_argument(
        "--files", type=int, default=0, metavar="N", help="show the N source files of most operations (0)"
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    args, rest = parser.parse_known_args()
    run = open_run(read_config(rest), None)
    names = args.stage or [name for name in run.order if run.stage(name).objective != "encode"]
    rows = []
    for name in names:
        row, files = measure(run, name, args.steps)
        rows.append(row)
        print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
        for file, count in files.most_common(args.files):
            print(f"  {count:6} {file}", flush=True)
        jax.clear_caches()
    print(to_table(rows))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"benchmarks.compile: {error}")
