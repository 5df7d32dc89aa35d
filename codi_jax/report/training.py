"""How it was trained: the loss of every stage, and where the time went."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codi_jax.parallel.tables import size
from codi_jax.report import svg
from codi_jax.report.markup import Html, el, figure, number, rows
from codi_jax.train.ledger import COUNTS
from codi_jax.train.metrics import duration
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


def costs(run: Run, cost: Mapping[str, Any], caption: Any) -> Html:
    """Seconds by stage and activity."""
    stages = {name: cost["stages"][name] for name in run.order if name in cost["stages"]}
    activities = list(dict.fromkeys(a for stage in stages.values() for a in stage if a not in (*COUNTS, "encode")))
    body = []
    for name, spent in stages.items():
        cells = [number(spent[a], 1) if a in spent else "" for a in activities]
        body.append([name, run.stage(name).objective, *cells, number(spent.get("total", 0.0), 1)])
    blank = [""] * len(activities)
    body.append(["evaluate", "", *blank, number(cost["evaluate"]["total"], 1)])
    body.append(["all together", "", *blank, duration(cost["total"])])
    memory = f" Evaluation took {size(cost['evaluate']['peak_memory_bytes'])} of memory at its peak."
    return figure(rows(["stage", "objective", *activities, "seconds"], body, "numbers costs"), [caption, memory])
