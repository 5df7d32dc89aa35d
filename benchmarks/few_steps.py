"""Few sampling steps: the full sampler, the same weights with fewer steps, and students distilled to as many.

    codi-jax train --config=digit_world:start=package,distill=4 --workdir=out/four
    python -m benchmarks.few_steps --distilled=out/four --n=32 --joint=256 --json=out/few_steps.json

`full` is the packaged model with its settings. `plain 4` is the same model in as many steps as a student has, with its
delays and its `environment_weights`, but with guidance; `student 4` are the weights of the run, whose settings have no
guidance. Each is evaluated on the same test samples from the same noise (`codi-jax evaluate`), in the modalities that
all students have:

    directions   fraction of outputs with the digit of the prompts, mean over every set of prompts to every set of
                 outputs (225 with four modalities, --n samples of each), with its interval of 95 %
    joint        fraction of samples without a prompt whose outputs agree on a factor, mean over factors and sets of
                 outputs (--joint samples of each set); `leading` is that of the digit
    entropy      of the digit over those samples, relative to uniform, in the output in which it is lowest
    calls        network calls of a denoiser for one sample of all outputs with a prompt, each branch of guidance one
    ms           of that sample: latents alone, batch --batch, median of --repeats in turns; its compilation apart

The goal is that of the student with the most steps: both means within .02 of the full sampler.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.joint import Sampling
from benchmarks.results import machine, median, number, summary, verdict, warn_of_load, write
from benchmarks.sweep import Model
from benchmarks.sweep import summary as of_metrics
from benchmarks.workers import measure_call, take_turns
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.digit_world import FACTORS, LEADING
from codi_jax.digit_world.benchmark.run import Evaluation
from codi_jax.digit_world.benchmark.settings import SPLITS, Scope
from codi_jax.packaged import DEFAULT
from codi_jax.parallel.host import keep_freed_memory
from codi_jax.parallel.tables import table
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.loop import JointSampler, Programs
from codi_jax.train.recipe import Run

GOAL = 0.02  # largest difference from the full sampler
PARTS = ("combinations", "joint")


class Sampler(NamedTuple):
    """What is compared: a name, the variables of a model, and the settings of generation."""

    name: str
    variables: dict[str, Any]
    generate: GenerateConfig


def restricted(run: Run, names: Sequence[str]) -> Run:
    """The run with some of its modalities."""
    config = run.config
    modalities = {name: config.model.modalities[name] for name in names}
    model, generate = dataclasses.replace(config.model, modalities=modalities), config.generate.only(names)
    return Run(dataclasses.replace(config, model=model, generate=generate), None)


def samplers(model: Model, students: Sequence[Model]) -> Iterator[Sampler]:
    """The full sampler, and for each run of students the plain sampler and the students."""
    full = model.run.config.generate.complete(model.run.codi.modalities)
    yield Sampler("full", model.variables, full)
    for student in students:
        own = restricted(student.run, tuple(model.run.codi.modalities)).config.generate
        plain = dataclasses.replace(full, steps=own.steps, delay=own.delay, environment_weights=own.environment_weights)
        yield Sampler(f"plain {own.steps}", model.variables, plain)
        yield Sampler(f"student {own.steps}", student.variables, own)


def calls(codi: CoDi, generate: GenerateConfig) -> int:
    """Network calls of the denoisers for one sample of all outputs with a prompt; each branch is one."""
    rules = {name: generate.guidance[name] for name in codi.modalities}
    plan = JointSampler(codi, generate, Programs()).plan(rules, 1)
    return sum(len(branches) for work in plan.work for branches in work.branches.values())


def measure(model: Model, compared: Sequence[Sampler], n: int, joint: int, split: str) -> list[dict[str, Any]]:
    """A row of agreement for each sampler; programs are compiled once."""
    config = model.run.config
    evaluate = {**config.evaluate, "n": max(n, joint), "combinations": n, "mixes": ()}
    first = Evaluation(
        model.run.codi, dataclasses.replace(config, evaluate=evaluate), model.variables, Scope(split, PARTS)
    )
    rows = []
    for sampler in compared:
        evaluation = first.with_settings(sampler.generate, PARTS, sampler.variables)
        metrics, _ = evaluation.run()
        mean, found = metrics["combinations_mean"], of_metrics(metrics)
        rows.append(
            {
                "sampler": sampler.name,
                "steps": sampler.generate.steps,
                "directions": mean[LEADING],
                "interval": mean["interval"],
                "joint": found["agreement"],
                "leading": found["leading"],
                "entropy": found["entropy"],
                "ratio": found["ratio"],
                "sets": {name: _agreement(cell) for name, cell in metrics["joint"].items()},
                "calls": calls(model.run.codi, sampler.generate),
            }
        )
    return rows


def _agreement(cell: Mapping[str, Any]) -> dict[str, float]:
    return {factor: row["joint"] for factor, row in cell.items() if factor in FACTORS}


def times(codi: CoDi, compared: Sequence[Sampler], batch: int, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of one sample of all outputs, and seconds of compilation, for each sampler."""
    outputs = tuple(codi.modalities)
    samplings = {s.name: Sampling(codi, s.variables, s.generate, outputs, batch) for s in compared}
    first = {name: measure_call(sampling.run)[1] for name, sampling in samplings.items()}
    found = take_turns({name: lambda s=s: measure_call(s.run)[1] for name, s in samplings.items()}, repeats)
    return [
        {
            "ms": 1e3 * median(timings) / batch,
            "compile_s": first[name].seconds - median(timings),
            **summary(timings),
        }
        for name, timings in found.items()
    ]


def to_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows, and whether the student with the most steps reaches the goal."""
    lines: list[tuple[str, ...]] = [
        ("sampler", "directions", "95 %", "joint", "leading", "entropy", "calls", "ms", "compile s")
    ]
    for row in rows:
        low, high = row["interval"]
        rates = (number(row[name], "{:.3f}") for name in ("joint", "leading", "entropy"))
        lines.append(
            (row["sampler"], f"{row['directions']:.3f}", f"{low:.3f}-{high:.3f}", *rates, str(row["calls"]),
             number(row.get("ms"), "{:.1f}"), number(row.get("compile_s"), "{:.1f}"))
        )  # fmt: skip
    out = [table(lines, right=range(1, 9))]
    students = [row for row in rows if row["sampler"].startswith("student")]
    if students:
        full, best = rows[0], max(students, key=lambda row: row["steps"])
        out += [
            f"{best['sampler']}, {name}, below the full sampler by "
            f"{verdict(round(full[name] - best[name], 4), GOAL, at_most=True)}"
            for name in ("directions", "joint")
        ]
    return "\n".join(out)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default=DEFAULT, help=f"the teacher, a packaged model or a folder of one ({DEFAULT})"
    )
    parser.add_argument(
        "--distilled", type=Path, action="append", default=[], help="workdir of a run of students; repeatable"
    )
    parser.add_argument("--n", type=int, default=32, help="samples of each direction (32)")
    parser.add_argument("--joint", type=int, default=256, help="samples of each set of outputs (256)")
    parser.add_argument("--split", choices=SPLITS, default="test", help="samples and draws (test)")
    parser.add_argument("--batch", type=int, default=1, help="samples of a timed call (1)")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each, after a first one (7)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(arguments)
    warn_of_load(before := machine())
    keep_freed_memory()
    model = Model(None, args.model)
    students = [Model(workdir, None) for workdir in args.distilled]
    common = [name for name in model.run.codi.modalities if all(name in s.run.codi.modalities for s in students)]
    model.run = restricted(model.run, common)
    compared = list(samplers(model, students))
    timed = times(model.run.codi, compared, args.batch, args.repeats)
    rows = measure(model, compared, args.n, args.joint, args.split)
    rows = [{**row, **time} for row, time in zip(rows, timed, strict=True)]
    write(
        args.json,
        before,
        rows,
        options={**vars(args), "json": str(args.json), "distilled": [*map(str, args.distilled)]},
    )
    sizes = f"n = {args.n} a direction, {args.joint} a set of outputs, {args.split} samples"
    print(f"{to_table(rows)}\n\n{'+'.join(common)}, {sizes}")


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"benchmarks.few_steps: {error}")
