"""Every table of the results by its name: which runs it is about, the sentence above it, and its content."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.claims import judged, paper_tasks
from benchmarks.claims import seeds as of_seeds
from benchmarks.claims.cells import average, cell, leaves, markdown, number
from benchmarks.claims.judged import JUDGES
from benchmarks.claims.runs import DIGIT, Run, Runs, compared, main, of_kind, provenance, seeds, union
from benchmarks.claims.runs import ablations as ablation_runs

WORST = 5  # cells of the 225 that are named
# 97.5 % quantiles of Student's t distribution with 1, 2, … degrees of freedom.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table before it is written.

    Attributes:
      used: the runs whose numbers it has, all of one commit; none if every part of it names its own run.
      what: a sentence that says what it shows.
      blocks: Markdown; empty strings are left out.
      seeds: whether its cells are means over the runs used.
      note: what follows the tables.
    """

    used: Sequence[Run]
    what: str
    blocks: Sequence[str]
    seeds: bool = True

    def text(self) -> str:
        """The Markdown between the markers of the table."""
        if not (blocks := [block for block in self.blocks if block]):
            return f"{self.what} Not measured yet."
        source = f" {provenance(self.used, seeds=self.seeds)}" if self.used else ""
        return "\n\n".join((f"{self.what}{source}", *blocks))


def directions(runs: Runs) -> Table:
    """(a) Prompt to output."""
    used = main(runs)
    what = "How often the output shows the prompt's digit; ★: no training sample ever held both."
    blocks = judged.judged(used, lambda judge: judged.directions(used, "matrix", judge))
    return Table(used, what, [*blocks, judged.widest_interval(used)])


def held_out(runs: Runs) -> Table:
    """(e) Prompt to output, combinations of factors that no training sample has."""
    used = main(runs)
    what = "The same for combinations of digit with colour and of digit with motion that no training sample showed."
    return Table(used, what, judged.judged(used, lambda judge: judged.directions(used, "held_out", judge)))


def joint(runs: Runs) -> Table:
    """(b) Sets of outputs."""
    used = main(runs)
    what = (
        "Generated together from the null prompt: the share of samples in which all outputs show the same digit; ★: no "
        "stage trains these outputs together."
    )
    return Table(used, what, judged.judged(used, lambda judge: judged.joint_table(used, judge)))


def factors(runs: Runs) -> Table:
    """(b) Sets of outputs, factors but the digit."""
    used = main(runs)
    what = "The share of samples in which all outputs that carry a factor show the same value of it."
    return Table(used, what, judged.judged(used, lambda judge: judged.factor_table(used, judge)))


def set_by_set(runs: Runs) -> Table:
    """(c) Some of the ablations, with every set of outputs."""
    columns = compared(runs)
    used = list(columns.values())

    def draw(judge: str) -> str:
        names = judged.sets(used, judge)

        def row(title: str, number_of: Callable[[Run], float | None]) -> list[str]:
            return [title, *(cell([number_of(run)]) for run in used)]

        rows = [
            row(judged.set_title(used[:1], s), lambda run, s=s: run.at("judges", judge, "joint", s, DIGIT, "joint"))
            for s in names
        ]
        rows.append(row("*entropy, mean*", lambda run: judged.mean_of(run, judge, names, "entropy")))
        rows.append(row("*other factors, mean*", lambda run: judged.mean_of_others(run, judge, names)))
        return markdown(
            ["outputs", *(f"{title} (length {run.length or 1}, n = {run.at('n')})" for title, run in columns.items())],
            rows,
        )

    what = "The share of samples whose outputs show the same digit, of ours and of others from the same first stages."
    return Table(used, what, judged.judged(used, draw), seeds=False)


def ablations(runs: Runs) -> Table:
    """(d) Other settings of the recipe."""
    rows = ablation_runs(runs)
    used = list(rows.values())

    def draw(judge: str) -> str:
        names = judged.sets(used, judge)
        size = {name: name.count("+") + 1 for name in names}
        new = [name for name in names if size[name] == 2 and judged.stars(used[:1], "trained", name)]
        groups = {
            "pairs": [name for name in names if size[name] == 2],
            "pairs never trained": new,
            "sets of three": [name for name in names if size[name] == 3],
            "all four": [name for name in names if size[name] == 4],
        }
        head = ["settings", *groups, "other factors", "entropy", "Fréchet ratio"]
        return markdown(
            head,
            [
                [
                    title,
                    *(cell([judged.mean_of(run, judge, group)]) for group in groups.values()),
                    cell([judged.mean_of_others(run, judge, names)]),
                    cell([judged.mean_of(run, judge, names, "entropy")]),
                    cell([average(judged.frechet_ratio(run, s) for s in names)]) if judge == JUDGES[1] else "",
                ]
                for title, run in rows.items()
            ],
        )

    what = "Means over sets of outputs generated together: the share of samples whose outputs show the same digit."
    return Table(used, what, judged.judged(used, draw), seeds=False)


def combinations(runs: Runs) -> Table:
    """(f) Every set of prompts to every set of outputs."""
    used = [run for run in main(runs) if run.at("combinations", "cells")]
    names = union(used, "combinations", "cells")
    means = [average(run.at("combinations", "cells", name) for name in names) for run in used]
    known = [value for value in means if value is not None]
    what = (
        f"Every set of prompts to every set of outputs{f', {len(names)} cells' if names else ''}: the prompts' digit."
    )
    if not known:
        return Table([], what, [])
    worst = sorted(names, key=lambda s: average(r.at("combinations", "cells", s) for r in used) or 0.0)[:WORST]
    rows = [["mean of all cells", cell(known)], ["95 % interval of this mean", _interval_of_mean(used, known)]]
    rows += [[f"mean of all cells, {f}", cell(r.at("combinations", "factors", f) for r in used)]
             for f in union(used, "combinations", "factors")]  # fmt: skip
    rows += [[_arrow(name), cell(run.at("combinations", "cells", name) for run in used)] for name in worst]
    counts = sorted({run.at("combinations", "n") for run in used})
    each = f"{' or '.join(map(str, counts))} samples a cell; the last {len(worst)} rows are the lowest cells."
    return Table(used, f"{what} {each}", [markdown(["cell", DIGIT], rows)])


def interval(values: Sequence[float]) -> str:
    """The 95 % interval of the mean of a number over seeds, by Student's t; "" for one seed."""
    if len(values) < 2:
        return ""
    quantile = STUDENT[min(len(values) - 1, len(STUDENT)) - 1]
    half = quantile * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{number(float(np.mean(values)) - half)} to {number(float(np.mean(values)) + half)}"


def _interval_of_mean(used: Sequence[Run], means: Sequence[float]) -> str:
    """Over seeds; of one seed over its samples, if the evaluation has it."""
    if len(used) == 1 and (bounds := used[0].at("combinations", "interval")):
        return f"{number(bounds[0])} to {number(bounds[1])}"
    return interval(means)


def _arrow(name: str) -> str:
    return name.replace("->", " → ").replace("+", " + ")


def grid(used: Sequence[Run], key: str) -> str:
    """The numbers of a section of the metrics: the last part of their paths is the column, the others the row."""
    found = [leaves(run.at(key)) for run in used]
    paths = list(dict.fromkeys(path for numbers in found for path in numbers))
    rows = list(dict.fromkeys(path[:-1] for path in paths))
    columns = list(dict.fromkeys(path[-1] for path in paths))
    return markdown(
        [key, *columns],
        [
            [_arrow(", ".join(row)) or "all", *(cell(of.get((*row, column)) for of in found) for column in columns)]
            for row in rows
        ],
    )


def section(key: str, what: str) -> Callable[[Runs], Table]:
    """(g) A table of a section of the metrics, whatever its rows and columns are."""

    def draw(runs: Runs) -> Table:
        used = [run for run in main(runs) if run.at(key)]
        return Table(used, what, [grid(used, key)])

    return draw


def sweeps(runs: Runs) -> Table:
    """(h) Settings of the sampler: one table for each file of `benchmarks.sweep`."""
    columns = ("agreement", "leading", "pairs", "entropy", "ratio", "directions")
    blocks = []
    for name, run in of_kind(runs, "sweep").items():
        if not (rows := run.at("settings")):
            continue
        commits = ", ".join(f"`{commit[:7]}`" for commit in dict.fromkeys(row["commit"] for row in rows))
        body = [
            [
                row["setting"] + (" (chosen)" if row["setting"] in run.at("chosen").values() else ""),
                *(cell([row[column]]) for column in columns),
                f"{row['operations'] / 1e9:.2f}",
            ]
            for row in rows
        ]
        title = f"{name}: {run.at('split')} samples, n = {run.at('n')}, commit {commits}. {run.at('criterion')}"
        blocks += [title, markdown(["setting", *columns, "GFLOP a sample"], body)]
    return Table([], "Settings of the sampler, by `python -m benchmarks.sweep`.", blocks)


def codecs(runs: Runs) -> Table:
    """(i) What codecs keep, and what judges read off real samples."""
    used = [run for run in main(runs) if run.at("codec")]
    columns = list(dict.fromkeys(f for m in union(used, "codec") for f in union(used, "codec", m)))
    head, rows = ["modality"], []
    for factor in columns:
        head += [f"{factor}, codec", f"{factor}, real"]
    for modality in union(used, "codec"):
        row = [modality]
        for f in columns:
            row += [cell(run.at("codec", modality, f, key) for run in used) for key in ("accuracy", "ceiling")]
        outside = [
            average(
                run.at("judges", JUDGES[0], "matrix", name, DIGIT, "ceiling")
                for name in run.keys("judges", JUDGES[0], "matrix")
                if name.endswith(f"->{modality}")
            )
            for run in used
        ]
        rows.append([*row, cell(outside)])
    what = "Read off real samples, and off real samples that the codec has encoded and decoded; packaged judges."
    return Table(used, what, [markdown([*head, "digit, real, judges from elsewhere"], rows)])


def demo(runs: Runs) -> Table:
    """What `make demo` trains."""
    used = [run for name, run in runs.items() if name == "demo"]
    what = "Prompt to output: the prompt's digit; then outputs generated together; then combinations never shown."
    blocks = [
        block
        for draw in (
            lambda judge: judged.directions(used, "matrix", judge),
            lambda judge: judged.joint_table(used, judge),
            lambda judge: judged.directions(used, "held_out", judge),
        )
        for block in judged.judged(used, draw)
    ]
    return Table(used, what, blocks)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def all_runs(runs: Runs) -> Table:
    """The runs themselves."""
    used = [run for name, run in runs.items() if not re.match(r"sweep\.", name)]
    head = ["run", "config", "seed", "seed of sampling", "n", "steps", "hours of processes", "commit", "note"]
    rows = [
        [
            run.name,
            f"`{run.at('trained_with')}`" if run.at("trained_with") else "",
            *(_text(run.at(*path)) for path in (("seeds", "training"), ("seeds", "sampling"), ("n",))),
            f"{sum(run.at('steps').values()):,}" if run.at("steps") else "",
            "" if run.at("hours") is None else f"{run.at('hours'):.2f}",
            f"`{run.commit[:7]}`",
            str(run.at("note") or ""),
        ]
        for run in used
    ]
    return Table(
        [],
        "The runs of docs/claims; hours are the sum over all stages, those copied from seed 0 included.",
        [markdown(head, rows)],
    )


def training_seeds(runs: Runs) -> Table:
    """(b) The recipe with several training seeds."""
    used = seeds(runs)
    what = "The whole recipe with several training seeds: the mean of each seed, then over seeds, with the range."
    blocks = judged.judged(used, lambda judge: of_seeds.table(used, judge)) if len(used) > 1 else []
    return Table(used if blocks else [], what, blocks, seeds=False)


def tasks(runs: Runs) -> Table:
    """The tasks of the paper."""
    used = main(runs)
    what = (
        "The small model on the eleven tasks of the paper, in digit_world, read by judges from elsewhere, and how a "
        "model of full size is measured on the paper's data."
    )
    return Table(used, what, [paper_tasks.table(used)])


TABLES: dict[str, Callable[[Runs], Table]] = {
    "directions": directions,
    "joint": joint,
    "factors": factors,
    "held_out": held_out,
    "seeds": training_seeds,
    "compared": set_by_set,
    "ablations": ablations,
    "combinations": combinations,
    "sync": section("sync", "The event that a video shows and that the audio lets hear: motion, and their offset."),
    "diversity": section("diversity", "How different samples of one prompt are."),
    "memorisation": section("memorisation", "How near generated samples are to samples of the training set."),
    "sweeps": sweeps,
    "codecs": codecs,
    "demo": demo,
    "tasks": tasks,
    "runs": all_runs,
}
