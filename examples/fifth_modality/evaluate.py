"""Measures the model with five modalities: `python -m examples.fifth_modality.evaluate out/fifth [val|test] [n]`.

    retrieval    the right one of ten, one of every digit, by the inner product of prompt embeddings
    A → B        the digit (and the motion, if both show it) of B generated from A
    A + B        agreement of A and B, or of all five, generated together without a prompt

The controls are the same numbers of shuffled pairs and, of A + B, of outputs that are generated separately from the
same noise. Digits and motions are read by the packaged judges and, of the pen, by the judge of this recipe, whose
writers no other network has seen. Exits with 1 if a number is below its floor, or a control of it above chance.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binom

import codi_jax
from codi_jax import packaged
from codi_jax.config import from_dict
from codi_jax.data.source import make_source, read_batch
from codi_jax.digit_world import FACTORS as VALUES
from codi_jax.digit_world.benchmark.samples import EvaluationSamples, take
from codi_jax.digit_world.judges import Judge, JudgeConfig, component
from codi_jax.digit_world.judges.readers import JudgeReader, Reader, make_readers
from codi_jax.metrics.agreement import Agreement, agreement
from codi_jax.metrics.base import compute
from codi_jax.metrics.intervals import wilson
from codi_jax.pipeline import Pipeline
from codi_jax.train.recipe import Run, load_run
from codi_jax.train.variables import assemble
from examples.fifth_modality.data import FACTORS

OTHERS = ("text", "image", "audio", "video")
PAIRED = ("text",)  # the only modality that the pen is trained with
SEED = 7
FLOORS = {"retrieval": 0.9, "paired": 0.9, "never paired": 0.8, "all": 0.7}  # of the digit
RARE = 0.0005  # probability of as many hits by chance from which on a control is above it


class Row(NamedTuple):
    """One number: its n, value, floor (None for none), the value expected by chance, and controls by name."""

    name: str
    n: int
    value: float
    floor: float | None
    chance: float
    controls: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether the value is not below its floor, and no control is above chance by more than its error."""
        hits = [round(control * self.n) for control in self.controls.values()]
        above = any(binom.sf(hit - 1, self.n, self.chance) < RARE for hit in hits)
        return self.floor is None or (self.value >= self.floor and not above)

    def __str__(self) -> str:
        low, high = wilson(self.value, self.n)
        floor = "" if self.floor is None else f"{self.floor:.2f}" if self.passed else f"{self.floor:.2f} missed"
        controls = "  ".join(f"{name} {value:.2f}" for name, value in self.controls.items())
        value = f"{self.n:4d}  {self.value:.3f}  [{low:.2f}, {high:.2f}]"
        return f"{self.name:28} {value}  {floor:11}  {self.chance:.2f}  {controls}"


def readers_of(run: Run) -> dict[str, Reader]:
    """A reader of factors for every modality."""
    package = packaged.open_package(packaged.DEFAULT)
    judge = Judge(from_dict(JudgeConfig, run.stage("judge.pen").settings))
    params = assemble(run, ("judge.pen",), (component("pen"),))["params"][component("pen")]
    of_pen = JudgeReader(run.codi["pen"], judge, params, FACTORS, 64)
    return {**make_readers(package.codi, package, 64, FACTORS), "pen": of_pen}


def retrieval(pipe: Pipeline, samples: EvaluationSamples) -> list[Row]:
    """Recall at 1 of ten candidates with different digits, both ways."""
    groups = np.array(samples.factors["digit"]).reshape(-1, 10)
    assert (np.sort(groups) == np.arange(10)).all()
    given = {n: [pipe.codi[n].user_from_raw(v) for v in values] for n, values in samples.values.items()}
    embeddings = {name: x.reshape(-1, 10, x.shape[-1]) for name, x in pipe.embed(given, batch_size=100).items()}
    orders = np.random.default_rng(SEED).permuted(np.tile(np.arange(10), (len(groups), 1)), axis=1)
    rows = []
    for a, b in [pair for other in OTHERS for pair in ((other, "pen"), ("pen", other))]:
        found = np.einsum("gid,gjd->gij", embeddings[a], embeddings[b]).argmax(-1)
        right, control = float((found == np.arange(10)).mean()), {"shuffled": float((found == orders).mean())}
        rows.append(Row(f"retrieval {a} → {b}", found.size, right, FLOORS["retrieval"], 0.1, control))
    return rows


def agreements(
    name: str, readings: Sequence[Mapping[str, np.ndarray]], floor: float | None, **controls: Any
) -> list[Row]:
    """A row for each factor that all readings (factor -> int [n]) share; `floor` is that of the digit.

    `controls` are other readings, beside the same ones with their samples in random orders.
    """
    rows, random = [], np.random.default_rng(SEED)
    for factor in (f for f in FACTORS if all(f in reading for reading in readings)):
        values = [np.asarray(reading[factor]) for reading in readings]
        numbers = compute(Agreement(len(values), len(VALUES[factor])), [values])
        other = {"shuffled": agreement([random.permutation(x) for x in values])}
        other |= {key: agreement([reading[factor] for reading in others]) for key, others in controls.items()}
        least = floor if factor == "digit" else None
        rows.append(Row(f"{name} {factor}", len(values[0]), numbers["agreement"], least, numbers["chance"], other))
    return rows


def measure(pipe: Pipeline, readers: Mapping[str, Reader], samples: EvaluationSamples, n: int) -> list[Row]:
    """All rows: retrieval, directions and joint generation, n samples each."""

    def read(names: Sequence[str], prompts: Any = None) -> list[dict[str, np.ndarray]]:
        out = pipe(prompts, to=names, n=n if prompts is None else 1, seed=SEED)
        return [readers[name]([pipe.codi[name].raw_from_user(v) for v in out[name]]).factors for name in names]

    rows = retrieval(pipe, samples)
    prompts = {m: [pipe.codi[m].user_from_raw(v) for v in values[:n]] for m, values in samples.values.items()}
    truth = {factor: values[:n] for factor, values in samples.factors.items()}
    rows += agreements("real pen", [truth, readers["pen"](samples.values["pen"][:n]).factors], None)
    for other in OTHERS:
        for a, b in ((other, "pen"), ("pen", other)):
            shown = {f: x for f, x in truth.items() if f in readers[a].factors}
            rows += agreements(f"{a} → {b}", [shown, *read((b,), {a: prompts[a]})], None)
    alone = {name: read((name,))[0] for name in (*OTHERS, "pen")}
    for other in OTHERS:
        floor, separate = FLOORS["paired" if other in PAIRED else "never paired"], (alone[other], alone["pen"])
        rows += agreements(f"{other} + pen", read((other, "pen")), floor, separate=separate)
    rows += agreements("all five", read(tuple(alone)), FLOORS["all"], separate=list(alone.values()))
    return rows


def balanced(run: Run, split: str, n: int) -> EvaluationSamples:
    """n samples of a split, in groups of ten with the digits 0 to 9."""
    config = run.config.sources[split]
    digits = read_batch(make_source({**config, "modalities": ()}), range(config["size"]))["factors"]["digit"]
    rows = np.stack([np.flatnonzero(digits == digit)[: n // 10] for digit in range(10)], axis=1)
    return take(run.codi, make_source(config), rows.ravel())


def main(workdir: str, split: str = "test", n: str = "250") -> list[Row]:
    """Measures and prints the table."""
    pipe, run = codi_jax.load(workdir, plugins=["examples.fifth_modality.pen"]), load_run(Path(workdir))
    rows = measure(pipe, readers_of(run), balanced(run, split, int(n)), int(n))
    print(f"{'':28}    n  value  95 %          floor        chance and controls", *rows, sep="\n")
    return rows


if __name__ == "__main__":
    sys.exit(not all(row.passed for row in main(*sys.argv[1:])))
