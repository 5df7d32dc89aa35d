"""Samples a second of every reader and modality on one core, beside a bare loop and beside webdataset with PyTorch.

    python -m benchmarks.data --json=out/data.json               (extra `media`; `parity` and webdataset for the latter)

Media files are made from a seed in a temporary folder. Batches are read as in training (`data.pipeline.Batches`: order,
threads, audio and video decoders in subprocesses, replacement of bad samples), from a stream that has started. All
processes of a measurement are on the same `--cores` CPUs (1), and they take turns.

    bare         a loop that reads and decodes the same files with the same functions and stacks them; of digit_world
                 and arrays, a loop over samples. Captions and arrays have nothing to decode, so their ratio is not
                 judged: what is left is the order of the samples, about 20 µs each in grain (more below some 4,000
                 samples; 450 µs if there are 64)
    webdataset   `webdataset` and a DataLoader with a worker for each core over the same tars, with the same decoding
    ratio        samples a second of ours over theirs, medians

A second table has the seconds of reading a batch over the seconds of a training step, of stages of a config that read
media (`benchmarks.compile` measures the step).
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from importlib import util
from pathlib import Path
from typing import Any

from benchmarks.results import machine, number, verdict, warn_of_load, write
from benchmarks.workers import Timing, Worker, WorkerError, take_turns
from codi_jax.parallel.tables import table

GOAL = 0.9
SAMPLES = {"text": 4096, "image": 1024, "audio": 512, "video": 64}
FILES = ("manifest", "webdataset", "arrayrecord")
READERS = (*FILES, "arrays", "digit_world")
FASTER = {"text": 8, "arrays": 8, "digit_world": 1}  # times as many batches, so that a measurement is long enough


def measure(
    ours: Worker, theirs: Worker | None, reader: str, modality: str, batches: int, batch_size: int, repeats: int
) -> dict[str, Any]:
    """A row: samples a second by way."""

    def timed(worker: Worker, *call: Any) -> Callable[[], Timing]:
        return lambda: Timing(worker.call("seconds", *call), 0.0, 0)

    batches *= FASTER.get(reader, FASTER.get(modality, 1))
    calls = {
        "ours": timed(ours, reader, modality, False, batches),
        "bare": timed(ours, reader, modality, True, batches),
    }
    if theirs is not None and reader == "webdataset":
        calls["webdataset"] = timed(theirs, modality, batches)
    timings = take_turns(calls, repeats)
    rates = {n: batches * batch_size / statistics.median(t.seconds for t in times) for n, times in timings.items()}
    return {
        "reader": reader,
        "modality": modality,
        "batches": batches,
        "seconds": {name: [t.seconds for t in times] for name, times in timings.items()},
        "samples_per_second": rates,
        "ratios": {name: rates["ours"] / rate for name, rate in rates.items() if name != "ours"},
    }


def to_table(rows: list[dict[str, Any]]) -> str:
    """A line for each reader and modality."""
    ways = ("ours", "bare", "webdataset")
    lines = [("reader", "modality", "ours/s", "bare/s", "webdataset/s", "over bare", "over webdataset")]
    for row in rows:
        rates, ratios = row["samples_per_second"], row["ratios"]
        ours, bare, other = (number(rates.get(way), "{:,.0f}") for way in ways)
        over = [number(ratios.get(way)) for way in ways[1:]]
        lines.append((row["reader"], row["modality"], ours, bare, other, over[0], over[1]))
    return table(lines, right=range(2, 7))


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """The lowest ratios of media files."""

    def lowest(way: str) -> float | None:
        judged = [row for row in rows if row["modality"] != "text" and row["reader"] in FILES]
        return min((row["ratios"][way] for row in judged if way in row["ratios"]), default=None)

    return [
        f"lowest ratio to a bare loop {verdict(lowest('bare'), GOAL)}",
        f"lowest ratio to webdataset with PyTorch {verdict(lowest('webdataset'), 1.0)}",
    ]


def steps(config: str, names: Sequence[str], batches: int) -> list[dict[str, Any]]:
    """For stages that read media, seconds of reading a batch and of a training step, in this process."""
    from benchmarks.compile import measure as measure_step
    from benchmarks.data_ours import steady
    from codi_jax.cli.common import read_config
    from codi_jax.data.pipeline import Batches
    from codi_jax.objectives.batches import MediaBatches
    from codi_jax.train.recipe import open_run
    from codi_jax.train.stage import source_of

    run, rows = open_run(read_config([f"--config={config}"]), None), []
    for name in names:
        stage = run.stage(name)
        transform = MediaBatches(run.codi, stage.modalities).batch
        stream = Batches(source_of(run, stage.source, name), stage.batch_size, 0, transform=transform)
        reading = steady(stream, batches, 6) / batches
        stream.close()
        step = measure_step(run, name, 5)[0]["step_ms"] / 1e3
        rows.append(
            {"stage": name, "batch": stage.batch_size, "read_s": reading, "step_s": step, "share": reading / step}
        )
    return rows


def steps_table(rows: list[dict[str, Any]]) -> str:
    """A line for each stage."""
    lines = [("stage", "batch", "reading ms", "step ms", "reading / step")]
    for row in rows:
        reading, step = (number(1e3 * row[key]) for key in ("read_s", "step_s"))
        lines.append((row["stage"], str(row["batch"]), reading, step, number(row["share"], "{:.3f}")))
    return table(lines, right=range(1, 5))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", default=",".join(READERS), help="joined by commas")
    parser.add_argument("--modalities", default=",".join(SAMPLES), help="joined by commas")
    parser.add_argument("--samples", type=float, default=1.0, help="times as many files of every modality (1)")
    parser.add_argument("--batch", type=int, default=16, help="batch size (16)")
    parser.add_argument("--batches", type=int, default=8, help="batches of a measurement; more of the faster ones (8)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each (5)")
    parser.add_argument("--cores", type=int, default=1, help="CPUs of all processes of a measurement (1)")
    parser.add_argument("--config", default="demo", help="config of the steps (demo)")
    parser.add_argument("--stages", default="bridging.text+image,codec.image", help="of the config; empty for none")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(arguments)
    warn_of_load(before := machine())
    from benchmarks.data_files import make

    rows, compared = [], bool(util.find_spec("torch") and util.find_spec("webdataset"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for modality in args.modalities.split(","):
            make(folder / modality, modality, max(int(args.samples * SAMPLES[modality]), args.batch))
        serve = {"threads": args.cores, "environment": {"JAX_PLATFORMS": "cpu"}}
        with Worker("benchmarks.data_ours:Readers", folder, args.batch, 2, **serve) as ours:
            theirs = (
                Worker("benchmarks.data_torch:Loader", folder, args.batch, args.cores, **serve) if compared else None
            )
            for reader in args.readers.split(","):
                for modality in ["latents"] if reader == "arrays" else args.modalities.split(","):
                    try:
                        row = measure(ours, theirs, reader, modality, args.batches, args.batch, args.repeats)
                    except WorkerError as error:
                        print(f"{reader} {modality}: {str(error).strip().splitlines()[-1]}", flush=True)
                        continue
                    rows.append(row)
                    print(to_table([row]).splitlines()[1], flush=True)
                    write(args.json, before, rows)
            if theirs is not None:
                theirs.close()
    stages = steps(args.config, args.stages.split(","), 4 * args.batches) if args.stages else []
    write(args.json, before, rows, stages=stages)
    print(f"\n{to_table(rows)}\n\n" + "\n".join(verdicts(rows)))
    if stages:
        print(f"\n{steps_table(stages)}")


if __name__ == "__main__":
    main()
