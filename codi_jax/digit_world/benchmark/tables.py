"""Metrics as text tables. Outside judges come first where they read, then the packaged ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from codi_jax.digit_world import LEADING
from codi_jax.digit_world.benchmark import combinations, outside, sync
from codi_jax.digit_world.benchmark.settings import samples_of
from codi_jax.parallel.tables import table as aligned

Row = Mapping[str, Any]
# Columns that the outside and the packaged judges both have.
_RATES = ("accuracy", "ceiling", "of ceiling", "interval")
_AGREEMENTS = ("joint", "interval", "independent", "shuffled", "chance", "entropy")


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(ends: Sequence[float]) -> str:
    return f"{ends[0]:.3f}-{ends[1]:.3f}"


def _cells(row: Row | None, columns: tuple[str, ...], **extra: Any) -> tuple[str, ...]:
    """A row's numbers as text; a column that the row does not have is "-", all are empty without a row."""
    if row is None:
        return ("",) * len(columns)
    numbers = {**row, **extra}
    if numbers.get("ceiling"):
        numbers["of ceiling"] = numbers["accuracy"] / numbers["ceiling"]

    def text(column: str) -> str:
        value = numbers.get(column)
        if column == "interval" and value:
            return _interval(value)
        return str(value) if column == "n" else _number(value)

    return tuple(map(text, columns))


def _titles(columns: tuple[str, ...], judge: str) -> tuple[str, ...]:
    """The titles of columns, the first of which is named after the judge."""
    return (judge, *("95 %" if column == "interval" else column for column in columns[1:]))


def _rates(title: str, columns: tuple[str, ...], cells: Mapping[str, Mapping[str, float]]) -> str:
    lines = [(title, *columns), *((name, *(_number(cell[c]) for c in columns)) for name, cell in cells.items())]
    return aligned(lines, right=range(1, 1 + len(columns)))


def _directions(directions: Mapping[str, Any], read: Mapping[str, Any], paired: bool = True) -> str:
    """Rows of directions, or of codecs if they do not say `paired`.

    Args:
      directions: title -> cell of the packaged judges.
      read: title -> cell of the outside judges, see `outside.cells`; without any they have no columns.
      paired: whether the directions say if they are paired, and have controls.
    """
    controls = ("shuffled",) if paired else ()
    first = (*_RATES, *controls, "n") if read else ()
    then = (*_RATES, *(("chance", "shuffled") if paired else ()))
    free = any(cell["free"] for cell in directions.values())
    head = ("direction", "paired", "factor") if paired else ("codec", "factor")
    head += (_titles(first, "outside") if read else ()) + _titles(then, "packaged" if read else "accuracy")
    lines: list[tuple[str, ...]] = [(*head, "entropy") if free else head]
    for name, cell in directions.items():
        labels = (name, "yes" if cell["paired"] else "no") if paired else (name,)
        other = read.get(name, {"n": 0, "factors": {}, "all": None})
        everything = {"all": cell["all"]} if paired else {}
        for factor, row in {**cell["factors"], **everything}.items():
            outer = other["all"] if factor == "all" else other["factors"].get(factor)
            numbers = (*_cells(outer, first, n=other["n"]), *_cells(row, then))
            lines.append((*labels, factor, *numbers, *([""] if free else [])))
        for factor, row in cell["free"].items():
            lines.append((*labels, factor, *[""] * len(first + then), _number(row["entropy"])))
    return aligned(lines, right=range(3 if paired else 2, len(lines[0])))


def _joint(sets: Mapping[str, Any], read: Mapping[str, Any]) -> str:
    first = (*_AGREEMENTS, "n") if read else ()
    head = ("outputs", "trained", "factor", *(_titles(first, "outside") if read else ()))
    lines: list[tuple[str, ...]] = [
        (*head, *_titles(_AGREEMENTS, "packaged" if read else "joint"), "fidelity", "alone")
    ]
    for name, cell in sets.items():
        other = read.get(name, {"n": 0, "factors": {}})
        for factor, row in cell.items():
            if factor in ("n", "trained"):
                continue
            distances = [out.get("fidelity_independent") for out in row["outputs"].values()]
            alone = max((d for d in distances if d is not None), default=None)
            numbers = (*_cells(other["factors"].get(factor), first, n=other["n"]), *_cells(row, _AGREEMENTS))
            trained = "yes" if cell["trained"] else "no"
            lines.append((name, trained, factor, *numbers, _number(row["fidelity"], 2), _number(alone, 2)))
    return aligned(lines, right=range(3, len(lines[0])))


def combinations_lines(metrics: Mapping[str, Any]) -> list[str]:
    """The combinations as lines: the mean and its interval, quantiles over the cells, the worst cells."""
    table = metrics["combinations"]
    summary, mean = combinations.summary(table), metrics.get("combinations_mean") or {}
    n = next(iter(table.values()))["n"]
    average = f"{LEADING} {summary[LEADING]:.3f}"
    if "interval" in mean:
        low, high = mean["interval"]
        average += f" on average, 95 % {low:.3f}-{high:.3f} ({mean['clusters']} clusters)"
    spread = ", ".join(f"{q:.0%} {rate:.2f}" for q, rate in summary["quantiles"].items())
    worst = ", ".join(f"{cell} {rate:.2f} (n = {table[cell]['n']})" for cell, rate in summary["worst"].items())
    return [
        f"Every set of prompts to every set of outputs: {summary['cells']} cells, n = {n} each",
        f"{average}; quantiles over cells: {spread}",
        f"lowest: {worst}",
    ]


def _sync(cells: Mapping[str, Any]) -> str:
    """A row for each pair of times: real ones, sets generated together and their controls, and prompted outputs."""
    columns = ("same frame", "95 %", "neighbour", "offset, ms", "unread")
    lines: list[tuple[str, ...]] = [("outputs", "", *columns)]
    for title, kind, row in sync.lines(cells):
        interval = _interval(row["same_frame_interval"]) if "same_frame_interval" in row else ""
        numbers = _number(row["same_frame"]), interval, _number(row["adjacent_frame"])
        lines.append((title, kind, *numbers, _number(row["offset_ms"], 0), _number(row["unread"])))
    return aligned(lines, right=range(2, 7))


def _diversity(modalities: Mapping[str, Any]) -> str:
    lines: list[tuple[str, ...]] = [("output", "generated", "diversity", "distance", "real", "n")]
    for name, cells in modalities.items():
        for title, row in cells.items():
            numbers = (_number(row[key]) for key in ("diversity", "distance", "real"))
            lines.append((name, title, *numbers, str(row["n"])))
    return aligned(lines, right=range(2, 6))


def _memory(modalities: Mapping[str, Any]) -> str:
    lines: list[tuple[str, ...]] = [("output", "generated", "median", "of real", "near 1 %", "near 5 %", "verbatim")]
    for name, cell in modalities.items():
        for title, row in cell["outputs"].items():
            numbers = (_number(row.get(key)) for key in ("median", "ratio", "near_1", "near_5", "verbatim"))
            lines.append((name, title, *numbers))
    return aligned(lines, right=range(2, 7))


def table(metrics: Mapping[str, Any]) -> str:
    """The table that `codi-jax evaluate` prints: codecs, matrix, held-out combinations, joint sets, real samples."""
    n, samples = metrics["n"], samples_of(metrics)
    read = {kind: outside.cells(metrics, kind) for kind in ("codec", "matrix", "held_out", "joint")}
    wordings = f", {metrics['wordings']} wordings" if metrics.get("wordings") else ""
    parts = [line, ""] if (line := outside.described(metrics)) else []
    if metrics["codec"]:
        parts += [f"Real samples, encoded and decoded, n = {n}", _directions(metrics["codec"], read["codec"], False)]
    if metrics["matrix"]:
        parts += [
            "",
            f"Prompt to output, n = {n}, unseen {samples} samples{wordings}",
            _directions(metrics["matrix"], read["matrix"]),
        ]
    if metrics["held_out"]:
        parts += [
            "",
            f"Prompt to output, n = {n}, combinations of factors held out of training",
            _directions(metrics["held_out"], read["held_out"]),
        ]
    if metrics.get("combinations"):
        parts += ["", *combinations_lines(metrics)]
    if metrics["joint"]:
        parts += [
            "",
            f"Outputs generated together from the null prompt, n = {n}",
            _joint(metrics["joint"], read["joint"]),
        ]
    if metrics.get("sim"):
        parts += ["", "Cosine similarity of outputs generated together, by separately trained towers"]
        parts += [_rates("SIM", ("joint", "independent", "shuffled"), metrics["sim"])]
    if "sets" in (of_pairs := metrics.get("sync", {})):
        parts += ["", "Bounce of the video and click of the audio: in the same frame, or a neighbouring one"]
        parts += [_sync(of_pairs)]
    if metrics.get("diversity"):
        parts += [
            "",
            "Distance between outputs of one digit, relative to real samples (text: share of distinct captions)",
        ]
        parts += [_diversity(metrics["diversity"])]
    if metrics.get("memorisation"):
        parts += [
            "",
            "Distance to the nearest training sample, relative to that of unseen real samples; near p %: share of",
        ]
        parts += ["outputs nearer than p % of these"]
        parts += [_memory(metrics["memorisation"])]
    distances = {m: row["fidelity"] for m, row in metrics["real"].items() if row["fidelity"] is not None}
    if distances:
        real = ", ".join(f"{m} {_number(d, 2)}" for m, d in distances.items())
        parts += ["", f"fidelity: Fréchet distance in the judge's features; of other real samples: {real}"]
    return "\n".join(parts).removeprefix("\n")
