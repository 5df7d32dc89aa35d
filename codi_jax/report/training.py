"""How it was trained: the loss of every stage, and where the time went.

Stages that ran side by side took less wall time than their totals add up to, see `train.ledger`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codi_jax.parallel.tables import size
from codi_jax.progress import duration
from codi_jax.report import svg
from codi_jax.report.markup import Html, el, figure, number, rows
from codi_jax.train.ledger import COUNTS, core_seconds, wall_seconds
from codi_jax.train.recipe import Run


def losses(path: Path) -> list[svg.Point]:
    """(steps taken, loss) of a stage's metrics.jsonl, without what was not finite."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line["step"] + 1, line["loss"]) for line in lines if line.get("loss") is not None]


def curves(run: Run, caption: Any) -> Html:
    """One small plot a stage, in the recipe's order."""
    plots = []
    for name in run.order:
        path = run.directory(name) / "metrics.jsonl"
        points = losses(path) if path.exists() else []
        if points:
            stage = run.stage(name)
            note = f"{stage.steps} steps of {stage.batch_size}; ends at {points[-1][1]:.3g}"
            title = el("h4", name), el("p", note, class_="note")
            plots.append(el("div", title, svg.curve(points, f"loss of {name}"), class_="plot"))
    return figure(el("div", plots, class_="plots"), caption)


def trained_in(stages: Mapping[str, Any]) -> str:
    """The wall time of the training in words, and its core time apart."""
    wall, core = wall_seconds(stages.values()), core_seconds(stages.values())
    if wall is None:
        return "trained"
    return f"trained in {duration(wall)}" + (f" ({duration(core)} of core time)" if core is not None else "")


def costs(run: Run, cost: Mapping[str, Any], caption: Any) -> Html:
    """Seconds by stage and activity, the activities that took most first; wall time and core time of all."""
    stages = {name: cost["stages"][name] for name in run.order if name in cost["stages"]}
    spent: dict[str, float] = {}
    for stage in stages.values():
        for activity in stage.keys() - {*COUNTS, "encode"}:
            spent[activity] = spent.get(activity, 0.0) + stage[activity]
    activities = sorted(spent, key=lambda activity: (-spent[activity], activity))
    body = []
    for name, stage in stages.items():
        cells = [number(stage[a], 1) if a in stage else "" for a in activities]
        totals = number(stage["total"], 1), number(stage.get("core_seconds"), 1)
        body.append([name, run.stage(name).objective, *cells, *totals])
    blank = [""] * (1 + len(activities))
    evaluated = cost["evaluate"]
    walls = wall_seconds(stages.values()), evaluated["total"]
    cores = core_seconds(stages.values()), evaluated.get("core_seconds")
    for title, wall, core in zip(("training", "evaluation"), walls, cores, strict=True):
        body.append([title, *blank, number(wall, 1), number(core, 1)])
    whole = (None if None in times else sum(times) for times in (walls, cores))
    body.append(["all together", *blank, *("–" if seconds is None else duration(seconds) for seconds in whole)])
    memory = f" Evaluation took {size(evaluated['peak_memory_bytes'])} of memory at its peak."
    head = ["stage", "objective", *activities, "wall time", "core time"]
    return figure(rows(head, body, "numbers costs"), [caption, memory])
