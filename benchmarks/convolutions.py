"""Implementations of a 3×3 convolution on CPU, at the sizes of our U-Nets, beside oneDNN's (PyTorch): GFLOP/s.

    python -m benchmarks.convolutions --json=out/convolutions.json                  (extra `parity` for oneDNN)
    python -m benchmarks.convolutions --flags

`benchmarks.convolutions_jax` describes the implementations. Each computes forward (y) and backward (the gradients of x
and of the kernel). Every one is compared with the first before it is timed (`error`, the largest difference over the
largest value). The totals are seconds of all convolutions of a forward pass of the network.

`--flags` tries XLA's CPU options one at a time, each in its own process: whether XLA_FLAGS knows it, whether
`compile(compiler_options=)` does, and GFLOP/s of convolutions and of matrix products of the same numbers of operations.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.convolutions_cases import Size
from benchmarks.results import machine, number, warn_of_load, write
from benchmarks.workers import Timing, Worker, WorkerError, take_turns
from codi_jax.parallel.tables import table

OURS = ("xla", "patches", "rows", "shifted", "winograd2", "winograd4")
THEIRS = ("onednn", "onednn last")
# By default YNNPACK computes single convolutions and single products; a value of this option replaces that list.
FLAGS = (
    ("xla_cpu_use_onednn", "true"),
    ("xla_cpu_use_xnnpack", "true"),
    ("xla_cpu_use_xnnpack", "false"),
    ("xla_cpu_experimental_xnn_fusion_type", "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"),
    ("xla_cpu_experimental_xnn_fusion_type", "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"),
    ("xla_cpu_experimental_ynn_fusion_type", "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"),
    ("xla_cpu_experimental_ynn_fusion_type", "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"),
    ("xla_cpu_experimental_ynn_fusion_type", ""),
    ("xla_cpu_experimental_onednn_fusion_type", "LIBRARY_FUSION_TYPE_DOT"),
    ("xla_cpu_experimental_onednn_custom_call", "true"),
    ("xla_cpu_prefer_vector_width", "256"),
    ("xla_cpu_prefer_vector_width", "512"),
    ("xla_cpu_multi_thread_eigen", "false"),
    ("xla_cpu_enable_fast_math", "true"),
    ("xla_cpu_opt_preset", "CPU_OPT_PRESET_FAST_RUNTIME"),
)
FLAG_SIZES = (Size(1, 32, 32, 320, 320, 1), Size(1, 16, 16, 640, 640, 1), Size(1, 8, 8, 1280, 1280, 1))


def seconds_of(timings: list[Timing], core: bool) -> float:
    """The median wall time; or, where other work disturbs it, the least processor time."""
    return min(t.core_seconds for t in timings) if core else statistics.median(t.seconds for t in timings)


def measure(workers: dict[str, Worker], size: Size, backward: bool, repeats: int, core: bool) -> dict[str, Any]:
    """A row: seconds and errors by implementation."""
    if size.stride > 1:
        workers = {name: worker for name, worker in workers.items() if not name.startswith("winograd")}
    reference = workers["xla"].call("values", "xla", size, backward)
    errors = {}
    for name, worker in workers.items():
        values = worker.call("values", name, size, backward)
        pairs = zip(values, reference, strict=True)
        errors[name] = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
    calls = {name: lambda n=name, w=worker: w.time("run", n, size, backward) for name, worker in workers.items()}
    timings = take_turns(calls, repeats)
    return {
        **dataclasses.asdict(size),
        "size": str(size),
        "backward": backward,
        "flops": size.flops * (2 if backward else 1),
        "errors": errors,
        "seconds": {name: seconds_of(values, core) for name, values in timings.items()},
    }


def to_table(rows: list[dict[str, Any]], names: Sequence[str], backward: bool) -> str:
    """A line for each size, and the totals; those of winograd take XLA's for a stride of 2."""
    lines = [(("backward" if backward else "forward"), "count", "GFLOP", *names, "fastest of ours", "over onednn")]
    rows = [row for row in rows if row["backward"] == backward]
    total, mixed, theirs = dict.fromkeys(names, 0.0), 0.0, 0.0
    for row in rows:
        seconds = row["seconds"]
        rates = [number(row["flops"] / seconds[n] / 1e9 if n in seconds else None, "{:.0f}") for n in names]
        fastest = min((n for n in seconds if n not in THEIRS), key=seconds.__getitem__)
        other = min((s for n, s in seconds.items() if n in THEIRS), default=0.0)
        ratio = number(other / seconds[fastest] if other else None)
        lines.append((row["size"], str(row["count"]), f"{row['flops'] / 1e9:.2f}", *rates, fastest, ratio))
        mixed, theirs = mixed + row["count"] * seconds[fastest], theirs + row["count"] * other
        total = {name: t + row["count"] * seconds.get(name, seconds["xla"]) for name, t in total.items()}
    flops = sum(row["count"] * row["flops"] for row in rows)
    last = (f"{1e3 * mixed:.0f} ms mixed", number(theirs / mixed if theirs else None))
    lines.append(("all, ms", "", f"{flops / 1e9:.1f}", *(f"{1e3 * total[name]:.0f}" for name in names), *last))
    return table(lines, right=range(1, 3 + len(names)))


def try_flags(threads: int, repeats: int, core: bool) -> list[dict[str, Any]]:
    """A row for each option; without rates where XLA does not know it."""
    rows = []
    for flag, value in (("none", ""), *FLAGS):
        row: dict[str, Any] = {"flag": flag, "value": value}
        rows.append(row)
        typed = {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
        options = None if flag == "none" else {flag: typed}
        for way in ("environment", "compiler_options"):
            environment = {"XLA_FLAGS": f"--{flag}={value}"} if options and way == "environment" else {}
            given = options if way == "compiler_options" else None
            try:
                with Worker(
                    "benchmarks.convolutions_jax:Convolutions", given, threads=threads,
                    environment={"JAX_PLATFORMS": "cpu", **environment},
                ) as worker:  # fmt: skip
                    row[way] = rates(worker, repeats, core)
            except WorkerError as error:
                row[way] = str(error).strip().splitlines()[-1]
        print(flag_line(row), flush=True)
    return rows


def rates(worker: Worker, repeats: int, core: bool) -> dict[str, float]:
    """FLOP/s of convolutions and of products of FLAG_SIZES."""
    calls = {}
    for size in FLAG_SIZES:
        rows = size.batch * size.height * size.width
        calls[f"conv {size.height}"] = lambda s=size: worker.time("run", "xla", s, False)
        calls[f"product {size.height}"] = lambda s=size, r=rows: worker.time("product", r, 9 * s.inputs, s.outputs)
    for call in calls.values():
        call()
    timings = take_turns(calls, repeats)
    flops = {}
    for size in FLAG_SIZES:
        flops[f"conv {size.height}"] = size.flops
        flops[f"product {size.height}"] = 2.0 * size.height * size.width * 9 * size.inputs * size.outputs
    return {name: flops[name] / seconds_of(values, core) for name, values in timings.items()}


def flag_line(row: dict[str, Any]) -> str:
    """A line for an option."""
    name = row["flag"] if row["flag"] == "none" else f"{row['flag']}={row['value']}"
    cells = []
    for way in ("environment", "compiler_options"):
        found = row[way]
        rates = found if isinstance(found, str) else ", ".join(f"{k} {v / 1e9:.0f}" for k, v in found.items())
        cells.append(f"  {way}: {rates}")
    return "\n".join([name, *cells])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sd", help="sd, the U-Net of Stable Diffusion 1.x, or a preset (sd)")
    parser.add_argument("--pixels", type=int, default=256, help="of sd (256)")
    parser.add_argument("--batch", type=int, default=1, help="batch size (1)")
    parser.add_argument("--repeats", type=int, default=9, help="timed calls of each (9)")
    parser.add_argument("--threads", type=int, default=2, help="CPUs of each process (2)")
    parser.add_argument("--sizes", type=int, help="only so many sizes, for a trial")
    parser.add_argument(
        "--core",
        action="store_true",
        help="least processor time instead of median wall time: for busy machines, 1 thread",
    )
    parser.add_argument("--only", default=",".join(OURS), help="implementations, joined by commas")
    parser.add_argument("--flags", action="store_true", help="try XLA's options instead")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(arguments)
    warn_of_load(before := machine())
    if args.flags:
        write(args.json, before, try_flags(args.threads, args.repeats, args.core))
        return
    rows = []
    with Worker(
        "benchmarks.convolutions_jax:Convolutions", threads=args.threads, environment={"JAX_PLATFORMS": "cpu"}
    ) as ours:
        workers = {name: ours for name in dict.fromkeys(("xla", *args.only.split(",")))}
        theirs = None
        if util.find_spec("torch"):
            theirs = Worker("benchmarks.convolutions_torch:Convolutions", args.threads, threads=args.threads)
            workers |= {name: theirs for name in THEIRS}
        for size in ours.call("sizes", args.model, args.batch, args.pixels)[: args.sizes]:
            for backward in (False, True):
                rows.append(measure(workers, size, backward, args.repeats, args.core))
                print(to_table(rows[-1:], tuple(workers), backward).splitlines()[1], flush=True)
            write(args.json, before, rows)
        if theirs:
            theirs.close()
    for backward in (False, True):
        print()
        print(to_table(rows, tuple(workers), backward))
    print()
    for name in workers:
        print(f"largest error of {name}: {max(row['errors'].get(name, 0.0) for row in rows):.1e}")


if __name__ == "__main__":
    main()
