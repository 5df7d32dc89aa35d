"""The U-Net of Stable Diffusion 1.x, here and in diffusers, with the same weights: seconds, memory, compilation.

    python -m benchmarks.unet --json=out/unet.json                                  (extra `parity`; CPU, 256 pixels)
    python -m benchmarks.unet --device=gpu --pixels=512 --dtype=bfloat16 --batch=1,2,4,8,16 --steps=50 --repeats=5

diffusers initialises the network at random (859,520,964 parameters); `codi_jax.interop` reads it. Predictions, samples
and gradients of both are compared (largest difference over the largest value); in float32 the benchmark ends if they
differ.
Both measure the same cases in turns, each in its own process:

    forward    one prediction
    gradient   loss and gradient over all parameters, as in a training step without the optimizer
    sampling   DDIM with classifier-free guidance of two branches, per step

    eager, compiled   diffusers as it is, and through torch.compile, which takes minutes on CPU; with 77 tokens only
    ratio             the seconds of diffusers over ours, medians; above 1 we are faster
    floor             the larger of operations / rate of a large matrix product and bytes of the parameters / rate of a
                      copy (the gradient writes as many), both rates measured here, by whichever framework is faster
    compile           the first call less the median of the others
    memory            the peak of resident memory of the process in a call that is not timed; on a GPU, the device's

The context of 77 tokens is that of Stable Diffusion; ours has one token for each prompt, which are the last rows.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import machine, median, number, summary, verdict, warn_of_load, write
from benchmarks.unet_cases import Case, Options
from benchmarks.workers import Timing, Worker, WorkerError, take_turns
from codi_jax.parallel.tables import size, table

CPU_GOALS = (1.0, 1.2)
TOLERANCE = {"float32": 1e-3, "bfloat16": None}  # roundings of bfloat16 add up over the steps of sampling
GPU_GOALS = {  # images or steps a second on an H100, see docs/performance.md
    "training, images/s": (110.0, 150.0),
    "training over diffusers compiled": (1.3,),
    "sampling of one image, steps/s": (66.0, 105.0),
}


def differences(ours: Worker, theirs: Worker, case: Case) -> dict[str, float]:
    """The largest difference of every value of a case, over the largest value."""
    mine, other = ours.call("values", case), theirs.call("values", case)
    return {name: float(np.abs(mine[name] - other[name]).max() / np.abs(other[name]).max()) for name in mine}


class Comparison:
    """Two processes with one network.

    Args:
      ours, theirs: of `unet_jax.Ours` and `unet_torch.Theirs`.
      options: of both.
      parameters: their number.
      core: measure processor time instead of wall time.
    """

    def __init__(self, ours: Worker, theirs: Worker, options: Options, parameters: int, core: bool):
        self._core = core
        self._ours, self._theirs, self._options, self._parameters = ours, theirs, options, parameters
        edge, share = (4096, 1.0) if options.device == "gpu" else (512 if options.tiny else 2048, 0.5)
        self.rates = {
            "flops": max(w.call("matmul_rate", edge, share) for w in (ours, theirs)),
            "bytes": theirs.call("copy_rate", (64 if options.tiny else 1024) << 20, share),
        }
        self.differences: dict[str, dict[str, float]] = {}

    def measure(self, case: Case, variants: Sequence[str], repeats: int) -> dict[str, Any]:
        """The row of a case; a variant that fails has an error instead of timings."""
        ours, theirs = self._ours, self._theirs
        variants = [v for v in variants if v != "compiled" or case.tokens > 1]  # its compilation takes minutes
        arguments = {"ours": (ours, "run", case), **{v: (theirs, "run", case, v == "compiled") for v in variants}}
        first: dict[str, Timing] = {}
        measured: dict[str, Any] = {}
        for name, (worker, *call) in arguments.items():
            try:
                first[name] = worker.time(*call)
            except WorkerError as error:
                measured[name] = {"error": str(error).strip().splitlines()[-1]}
                print(f"{case.measure}, batch {case.batch}, {name}: {measured[name]['error']}", flush=True)
            theirs.call("release")
        if case.measure not in self.differences and "ours" in first:
            self._compare(case)
        for worker in (ours, theirs):
            worker.call("peak_device_bytes")
        calls = {name: lambda c=arguments[name]: self._clock(c[0].time(*c[1:])) for name in first}
        for name, timings in take_turns(calls, repeats).items():
            worker, *call = arguments[name]
            measured[name] = {
                **summary(timings),
                "compile_s": self._clock(first[name]).seconds - median(timings),
                "peak_bytes": worker.call("peak_device_bytes") or worker.memory(*call),
            }
        theirs.call("release")
        flops = ours.call("flops", case)
        each = self._parameters * (2 if self._options.dtype == "bfloat16" else 4)
        moved = each * (2 if case.measure == "gradient" else case.calls)
        mine = measured["ours"].get("median_s")
        return {
            **dataclasses.asdict(case),
            "flops": flops,
            "bytes": moved,
            "floor_s": max(flops / self.rates["flops"], moved / self.rates["bytes"]),
            "measured": measured,
            "ratios": {v: measured[v]["median_s"] / mine for v in variants if mine and "median_s" in measured[v]},
        }

    def _clock(self, timing: Timing) -> Timing:
        return dataclasses.replace(timing, seconds=timing.core_seconds) if self._core else timing

    def _compare(self, case: Case) -> None:
        """Exits if the values of a case differ between the two."""
        found = self.differences[case.measure] = differences(self._ours, self._theirs, case)
        self._theirs.call("release")
        text = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
        print(f"relative difference of ours and diffusers', {case.measure}: {text}", flush=True)
        tolerance = TOLERANCE[self._options.dtype]
        if tolerance and not max(found.values()) <= tolerance:
            sys.exit(f"benchmarks.unet: {case.measure} differs; a comparison of their times would mean nothing")


def to_table(rows: list[dict[str, Any]], variants: Sequence[str]) -> str:
    """A line for each case."""
    header = ("measure", "batch", "tokens", "ours ms", *(f"{v} ms" for v in variants))
    header += (*(f"{v} ratio" for v in variants), "floor ms", "TFLOP", "compile s", *(f"{v}" for v in variants))
    header += ("memory", *(f"{v}" for v in variants))
    lines = [header]
    names = ("ours", *variants)
    for row in rows:
        each = row["steps"] if row["measure"] == "sampling" else 1
        cells = [row["measured"].get(name, {}) for name in names]
        lines.append(
            (
                row["measure"],
                str(row["batch"]),
                str(row["tokens"]),
                *(number(1e3 * c["median_s"] / each if "median_s" in c else None, "{:.1f}") for c in cells),
                *(number(row["ratios"].get(v)) for v in variants),
                number(1e3 * row["floor_s"] / each, "{:.1f}"),
                number(row["flops"] / each / 1e12, "{:.3f}"),
                *(number(c.get("compile_s"), "{:.1f}") for c in cells),
                *(size(c["peak_bytes"]) if "peak_bytes" in c else "-" for c in cells),
            )
        )
    return table(lines, right=range(1, len(header)))


def verdicts(rows: list[dict[str, Any]], options: Options) -> list[str]:
    """A line for each goal; a GPU's are judged on the whole network at 512 pixels in bfloat16 only."""
    out = []
    for what in ("forward", "gradient"):
        ratios = [
            min(row["ratios"].values())
            for row in rows
            if row["measure"] == what and row["ratios"] and row["batch"] == 1
        ]
        judged = min(ratios) if ratios and options.device == "cpu" and not options.tiny else None
        out.append(f"{what} on CPU over the faster of diffusers' {verdict(judged, *CPU_GOALS)}")
    on_gpu = options.device == "gpu" and not options.tiny and options.pixels == 512 and options.dtype == "bfloat16"
    values: dict[str, list[float]] = {name: [] for name in GPU_GOALS}
    for row in rows if on_gpu else ():
        mine = row["measured"]["ours"].get("median_s")
        if mine and row["measure"] == "gradient" and row["tokens"] > 1:
            values["training, images/s"].append(row["batch"] / mine)
            if "compiled" in row["ratios"]:
                values["training over diffusers compiled"].append(row["ratios"]["compiled"])
        if mine and row["measure"] == "sampling" and row["batch"] == 1:
            values["sampling of one image, steps/s"].append(row["steps"] / mine)
    out += [f"{name} {verdict(max(values[name], default=None), *goals)}" for name, goals in GPU_GOALS.items()]
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--pixels", type=int, default=256, help="height and width of an image (256)")
    parser.add_argument("--batch", default="1", help="batch sizes, joined by commas (1)")
    parser.add_argument("--dtype", choices=tuple(TOLERANCE), default="float32", help="of computation (float32)")
    parser.add_argument("--steps", type=int, default=4, help="sampling steps, a divisor of 1000 (4)")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each, after a first one (5)")
    parser.add_argument("--threads", type=int, default=2, help="CPUs of each process, on CPU (2)")
    parser.add_argument(
        "--core", action="store_true", help="processor time instead of wall time: for busy machines, with --threads=1"
    )
    parser.add_argument("--measure", default="forward,gradient,sampling", help="which rows, joined by commas")
    parser.add_argument("--tokens", default="77,1", help="of the context, joined by commas (77,1)")
    parser.add_argument("--variants", default="eager,compiled", help="of diffusers, joined by commas (eager,compiled)")
    parser.add_argument("--channels-last", action="store_true", help="diffusers' arrays in channels_last memory format")
    parser.add_argument("--keep-freed-memory", action="store_true", help="in our process, as codi-jax train does")
    parser.add_argument("--tiny", action="store_true", help="a network of two narrow levels instead, for a trial")
    parser.add_argument("--json", type=Path, help="write the results to this file, row by row")
    args = parser.parse_args(arguments)
    if 1000 % args.steps:
        parser.error("--steps: must divide 1000, so that both frameworks visit the same timesteps")

    batches, measures = [int(b) for b in args.batch.split(",")], args.measure.split(",")
    variants = [v for v in args.variants.split(",") if v]
    cases = [
        Case(what, batch, int(tokens), args.steps if what == "sampling" else 1)
        for tokens in args.tokens.split(",")
        for what in measures
        for batch in batches
        if tokens != "1" or what != "sampling"
    ]
    warn_of_load(before := machine())
    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            Path(folder, "unet.safetensors"), args.pixels, args.dtype, args.device, args.tiny, args.channels_last,
            args.keep_freed_memory,
        )  # fmt: skip
        run(cases, options, variants, args, before)


def run(cases: list[Case], options: Options, variants: list[str], args: argparse.Namespace, before: Any) -> None:
    """Starts the processes, compares, measures and prints."""
    threads = args.threads if options.device == "cpu" else None
    environment = {"JAX_PLATFORMS": "cpu" if options.device == "cpu" else "cuda"}
    if options.device == "gpu":  # both processes share its memory
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    with (
        Worker("benchmarks.unet_torch:Theirs", options, threads, threads=threads) as theirs,
        Worker("benchmarks.unet_jax:Ours", options, threads=threads, environment=environment) as ours,
    ):
        options.weights.unlink()
        mine, other = ours.call("describe"), theirs.call("describe")
        assert mine["parameters"] == other["parameters"], (mine, other)
        print(f"{mine['parameters']:,} parameters, {options.pixels} pixels, {options.dtype}, {other['device']}")
        comparison, rows = Comparison(ours, theirs, options, mine["parameters"], args.core), []
        flops, copied = comparison.rates["flops"] / 1e9, comparison.rates["bytes"] / 1e9
        print(f"matrix product {flops:,.0f} GFLOP/s, copy {copied:,.1f} GB/s", flush=True)
        for case in cases:
            rows.append(comparison.measure(case, variants, args.repeats))
            print(to_table(rows[-1:], variants), flush=True)
            write(
                args.json, before, rows, options={**vars(args), "json": str(args.json)}, rates=comparison.rates,
                relative_differences=comparison.differences,
            )  # fmt: skip
        print()
        print(to_table(rows, variants))
        if args.core:
            print("processor time of one process after the other; the floor is in wall time, and so are the goals")
        else:
            print("\n".join(verdicts(rows, options)))


if __name__ == "__main__":
    main()
