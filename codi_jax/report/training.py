"""The training section of the report: the loss of every stage, its time line, and time by activity.

Stages that ran in parallel took less wall time than the sum of their totals, see `train.ledger`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codi_jax.parallel.tables import size
from codi_jax.progress import duration
from codi_jax.report import svg
from codi_jax.report.markup import Html, el, figure, folded, number, rows, section
from codi_jax.report.timeline import timeline
from codi_jax.train.ledger import COUNTS, core_seconds, wall_seconds
from codi_jax.train.recipe import Run

_COSTS = (
    "Seconds by stage and activity, and milliseconds of one step, without compilation. “data” is the time spent "
    "waiting for the next batch; “compile” is short if the compiled program was in the cache. The wall time of the "
    "training counts stages that ran in parallel once, so the stages may add up to more. Core time is the processor "
    "time of the stage's process."
)


def losses(path: Path) -> list[svg.Point]:
    """(number of steps, loss) from metrics.jsonl of a stage, without losses that were not finite."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line["step"] + 1, line["loss"]) for line in lines if line.get("loss") is not None]


def training(run: Run, cost: Mapping[str, Any]) -> Html:
    """The section: curves, time line and costs.

    Args:
      run: the run.
      cost: see `costs`.
    """
    return section(
        "training",
        "Training",
        el("p", "Every stage trains its own components and uses those of the stages before it."),
        curves(run),
        el("h3", "When"),
        timeline(run, cost["stages"]),
        el("h3", "How long"),
        costs(run, cost),
    )


def config_section(run: Run) -> Html:
    """The resolved config, folded."""
    config = (run.folder / "config.json").read_text(encoding="utf-8")
    return el("section", folded("The resolved config of this run", el("pre", config, tabindex=0)), class_="end")


def curves(run: Run) -> Html:
    """One small plot for each stage, in the order of the recipe."""
    plots = []
    for name in run.order:
        path = run.directory(name) / "metrics.jsonl"
        points = losses(path) if path.exists() else []
        if points:
            stage = run.stage(name)
            note = f"{stage.steps} steps, batch size {stage.batch_size}; final loss {points[-1][1]:.3g}"
            title = el("h3", name), el("p", note, class_="note")
            plots.append(el("div", title, svg.curve(points, f"loss of {name}"), class_="plot"))
    if not plots:
        return el("p", "This workdir has no losses: its model was not trained in it.")
    return figure(
        el("div", plots, class_="plots"),
        "Loss of every stage over its steps: logged values (thin) and their running mean (thick). The axis is "
        "logarithmic if the loss spans more than a factor of ten.",
    )


def trained_in(stages: Mapping[str, Any]) -> str:
    """The wall time and the core time of the training as text; "trained" if they were not recorded."""
    wall, core = wall_seconds(stages.values()), core_seconds(stages.values())
    if wall is None:
        return "trained"
    return f"trained in {duration(wall)}" + (f" ({duration(core)} of core time)" if core is not None else "")


def _step_ms(stage: Mapping[str, Any]) -> float | None:
    """Milliseconds of one step, of those that were lost too; None if the stage takes none."""
    steps = stage.get("reached", 0) + stage.get("lost_steps", 0)
    return 1000 * stage["step"] / steps if steps and "step" in stage else None


def costs(run: Run, cost: Mapping[str, Any]) -> Html:
    """Seconds by stage and activity, activities in decreasing order of time; total wall time and core time.

    Args:
      run: the run.
      cost: {"stages": see `ledger.stage_costs`, "evaluate": {"total", "core_seconds", "peak_memory_bytes"} of the
        evaluation, if there was one}.
    """
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
        body.append([name, run.stage(name).objective, number(_step_ms(stage), 1), *cells, *totals])
    blank = [""] * (2 + len(activities))
    evaluation = cost.get("evaluate")
    walls, cores = [wall_seconds(stages.values())], [core_seconds(stages.values())]
    if evaluation is not None:
        walls.append(evaluation["total"])
        cores.append(evaluation.get("core_seconds"))
    for title, wall, core in zip(("training", "evaluation"), walls, cores, strict=False):
        body.append([title, *blank, number(wall, 1), number(core, 1)])
    if evaluation is not None:
        known = ([x for x in spent if x is not None] for spent in (walls, cores))
        body.append(["total", *blank, *(duration(sum(spent)) if len(spent) == 2 else "–" for spent in known)])
    caption = [_COSTS]
    if evaluation is not None:
        caption.append(f" Peak memory of the evaluation: {size(evaluation['peak_memory_bytes'])}.")
    head = ["stage", "objective", "one step, ms", *activities, "wall time", "core time"]
    return figure(rows(head, body, "numbers costs"), caption, "Time by stage and activity")
