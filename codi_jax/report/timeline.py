"""The stages of a run on a time line: when each ran, beside which others, on which machine, and what its steps took.

Times are those of cost.json (`train.ledger`), machines those in the names of the event files of a stage.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from codi_jax.progress import duration
from codi_jax.report.markup import Html, el, figure, rows
from codi_jax.train.events import hosts
from codi_jax.train.recipe import Run

Sessions = Sequence[Sequence[float]]  # [begin, end] of each, seconds since 1970

CAPTION = (
    "When each stage ran, from the start of the first one. Stages whose bars overlap ran at the same time, in "
    "processes of their own, which are numbered here. An interrupted stage has several bars."
)


def lanes(stages: Mapping[str, Sessions]) -> dict[str, int]:
    """The number of a process, from 1, for each stage: stages that ran at the same time have different ones."""
    free: list[float] = []  # end of the last stage of each process
    out = {}
    for name, sessions in sorted(stages.items(), key=lambda item: item[1][0][0]):
        begin, end = sessions[0][0], max(end for _, end in sessions)
        lane = next((i for i, last in enumerate(free) if last <= begin), len(free))
        free[lane : lane + 1] = [end]
        out[name] = lane + 1
    return out


def _bars(sessions: Sessions, origin: float, length: float) -> Html:
    parts = []
    for begin, end in sessions:
        left, width = 100 * (begin - origin) / length, 100 * (end - begin) / length
        parts.append(el("i", style=f"left:{left:.2f}%;width:{width:.2f}%"))
    return el("div", parts, class_="track")


def timeline(run: Run, costs: Mapping[str, Any]) -> Html:
    """A line for each stage that ran, in the order in which they began, with its bars on the time of the training.

    Args:
      run: the run.
      costs: see `ledger.stage_costs`. Stages of earlier versions, without sessions, are named in the caption.
    """
    known = {name: costs[name]["sessions"] for name in run.order if costs.get(name, {}).get("sessions")}
    unknown = [name for name in run.order if name in costs and name not in known]
    left_out = f" Not recorded: {', '.join(unknown)}." if unknown else ""
    if not known:
        return el("p", "When the stages ran is not recorded in this workdir.", left_out)
    origin = min(sessions[0][0] for sessions in known.values())
    last = max(end for sessions in known.values() for _, end in sessions)
    lane, body = lanes(known), []
    for name, sessions in sorted(known.items(), key=lambda item: item[1][0][0]):
        begin, end = sessions[0][0], max(end for _, end in sessions)
        machines = ", ".join(hosts(run.directory(name)))
        cells = (f"{duration(begin - origin)} to {duration(end - origin)}", f"process {lane[name]}", machines or "–")
        body.append([name, _bars(sessions, origin, max(last - origin, 1e-3)), *cells])
    began = datetime.fromtimestamp(origin, UTC).strftime("%Y-%m-%d %H:%M")
    head = ("stage", f"0 to {duration(last - origin)}", "start to end", "in parallel", "machine")
    caption = f"{CAPTION} The first stage began on {began} UTC.{left_out}"
    return figure(rows(head, body, "numbers timeline"), caption, "Stages on a time line")
