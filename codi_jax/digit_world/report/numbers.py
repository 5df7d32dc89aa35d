"""The metrics of directions and of sets of prompts: tiles with their means, heat maps, tables, curves.

Numbers of outside judges (`benchmark.outside`), where they read a factor, come first, then those of the packaged
judge.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from codi_jax.digit_world import FACTORS, LEADING
from codi_jax.digit_world.benchmark import mixing, outside
from codi_jax.digit_world.benchmark.combinations import subsets
from codi_jax.report import svg
from codi_jax.report.heat import shade
from codi_jax.report.markup import Html, el, figure, folded, number, rows, scrolling


def factor_rows(cell: Mapping[str, Any]) -> dict[str, Any]:
    """factor -> row, in the order of the world."""
    return {f: cell[f] for f in FACTORS if f in cell}


def spaced(title: str) -> str:
    """A direction or set of modalities, formatted for display."""
    return title.replace("->", " → ").replace("+", " + ")


def set_title(name: str, cell: Mapping[str, Any]) -> str:
    """A set of outputs, formatted for display; ★ if no stage trained exactly this set."""
    return spaced(name) + ("" if cell["trained"] else " ★")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _tile(value: str, title: str, note: str) -> Html:
    parts = el("div", value, class_="value"), el("div", title, class_="title"), el("div", note, class_="note")
    return el("div", parts, class_="tile")


def means(metrics: Mapping[str, Any]) -> Html:
    """Tiles for the leading factor: mean and lowest accuracy over directions."""
    tiles = []

    def across(title: str, kind: str, paired: bool | None) -> None:
        directions, read = metrics[kind], outside.cells(metrics, kind)
        cells = {
            name: cell["factors"][LEADING]
            for name, cell in directions.items()
            if len(set(name.split("->"))) == 2 and LEADING in cell["factors"] and paired in (None, cell["paired"])
        }
        others = {name: read[name]["factors"][LEADING] for name in cells if LEADING in outside_factors(read, name)}
        packaged = ""
        if others and others.keys() == cells.keys():
            packaged = f"outside judges; packaged {number(_mean([row['accuracy'] for row in cells.values()]), 2)}; "
            cells = others
        if cells:
            worst = min(cells, key=lambda name: cells[name]["accuracy"])
            ceiling = _mean([row["ceiling"] for row in cells.values()])
            lowest = f"lowest {worst.replace('->', ' → ')} {number(cells[worst]['accuracy'], 2)}"
            value = number(_mean([row["accuracy"] for row in cells.values()]), 2)
            tiles.append(_tile(value, title, f"{packaged}ceiling {number(ceiling, 2)}; {lowest}"))

    across(f"{LEADING} accuracy, paired directions", "matrix", True)
    across(f"{LEADING} accuracy, unpaired directions", "matrix", False)
    across(f"{LEADING} accuracy, held-out combinations", "held_out", None)
    return el("div", tiles, class_="tiles")


def outside_factors(read: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """factor -> row of the outside judges for a direction or set; {} if they do not read it."""
    return read.get(name, {"factors": {}})["factors"]


def span(bounds: Sequence[float] | None) -> str:
    """An interval, formatted; "–" for None."""
    return "–" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def bounds(row: Mapping[str, Any]) -> str:
    """The interval of a row, which metrics from before outside judges had them lack."""
    return span(row.get("interval"))


def _of_ceiling(row: Mapping[str, Any]) -> str:
    return number(row["accuracy"] / row["ceiling"]) if row["ceiling"] else "–"


def shaded(value: float) -> str:
    """The style of a cell: its colour, and letters that are readable on it."""
    fill, dark = shade(value)
    return f"background:{fill};color:{'#fff' if dark else '#000'}"


def _corner() -> Html:
    return el("th", "in \\ out", scope="col", abbr="prompt")


def _heat(names: Sequence[str], cells: Mapping[str, Any], factor: str, read: Mapping[str, Any]) -> Html:
    def cell(a: str, b: str) -> Html:
        direction = cells.get(f"{a}->{b}", {"factors": {}})
        row = direction.get("all") if factor == "all" else direction["factors"].get(factor)
        if row is None:
            return el("td", "–", class_="none")
        hint = f"{row['accuracy']:.3f}, 95 % interval {bounds(row)}; shuffled {row['shuffled']:.3f}"
        packaged = None
        other = read.get(f"{a}->{b}", {"factors": {}, "all": None})
        if (outer := other["all"] if factor == "all" else other["factors"].get(factor)) is not None:
            packaged = el("div", el("small", f"({number(row['accuracy'], 2)})"))
            hint = f"outside judge {outer['accuracy']:.3f}, 95 % interval {bounds(outer)}; packaged judge {hint}"
            row = outer
        small = f"of {number(row['ceiling'], 2)}" + ("" if direction["paired"] else " ★")
        parts = el("b", number(row["accuracy"], 2)), el("small", small), packaged
        return el("td", parts, style=shaded(row["accuracy"]), title=hint)

    head = el("tr", _corner(), [el("th", name, scope="col") for name in names])
    body = [el("tr", el("th", a, scope="row"), [cell(a, b) for b in names]) for a in names]
    table = el("table", el("thead", head), el("tbody", body), class_="heat", aria_label=f"{factor}: prompt by output")
    return el("div", el("h3", "all factors" if factor == "all" else factor), table)


def heat_maps(names: Sequence[str], cells: Mapping[str, Any], caption: Any, read: Mapping[str, Any]) -> Html:
    """A heat map for each factor, prompts in rows and outputs in columns, and one for all shared factors jointly.

    Where `read`, the cells of the outside judges, has a factor, their number is the large one, and that of the packaged
    judge is below the ceiling, in brackets.
    """
    present = [f for f in FACTORS if any(f in cell["factors"] for cell in cells.values())]
    return figure(el("div", [_heat(names, cells, f, read) for f in (*present, "all")], class_="row"), caption)


def combination_map(names: Sequence[str], table: Mapping[str, Any], caption: Any) -> Html:
    """Accuracy of the leading factor by sets of prompts and sets of outputs, the mean over the outputs of a cell."""
    short = {name: name[0].upper() for name in names}
    sets = subsets(names)

    def title(s: Sequence[str]) -> str:
        return "".join(short[name] for name in s)

    def cell(inputs: Sequence[str], outputs: Sequence[str]) -> Html:
        row = table.get(f"{'+'.join(inputs)}->{'+'.join(outputs)}")
        if row is None:
            return el("td", "–", class_="none")
        rate = _mean(list(row[LEADING].values()))
        hint = f"{' + '.join(inputs)} → " + ", ".join(f"{m} {number(x, 2)}" for m, x in row[LEADING].items())
        return el("td", f"{rate:.2f}".removeprefix("0"), style=shaded(rate), title=f"{hint} (n = {row['n']})")

    head = el("tr", _corner(), [el("th", title(s), scope="col") for s in sets])
    body = [el("tr", el("th", title(a), scope="row"), [cell(a, b) for b in sets]) for a in sets]
    legend = ", ".join(f"{letter} {name}" for name, letter in short.items())
    label = "Sets of prompts by sets of outputs"
    map_ = el("table", el("thead", head), el("tbody", body), class_="heat small", aria_label=label)
    return figure(map_, (caption, f" {legend}."))


def mix_curves(curves: Mapping[str, Any], caption: Any) -> Html:
    """Mix-weight curves: accuracy with respect to each prompt as the weight moves from the first to the second."""
    plots = []
    for title, curve in curves.items():
        a, b, output = mixing.parse_title(title)
        series = [
            (name, list(zip(curve["weights"], curve[LEADING][name], strict=True)), class_)
            for name, class_ in ((a, "a"), (b, "b"))
        ]
        plots.append(el("div", el("h3", f"{a} against {b} → {output}"), svg.unit_curves(series, title), class_="plot"))
    return figure(el("div", plots, class_="row"), caption)


def matrix_table(names: Sequence[str], cells: Mapping[str, Any], read: Mapping[str, Any]) -> Html:
    """All metrics of all directions; `read` has the cells of the outside judges, and is {} without any."""
    body = []
    first = ["outside judge", "ceiling", "of ceiling", "95 % interval", "n"] if read else []
    for direction in (f"{a}->{b}" for a in names for b in names if f"{a}->{b}" in cells):
        cell, other = cells[direction], read.get(direction, {"n": 0, "factors": {}, "all": None})
        outer = {**other["factors"], "all factors": other["all"]}
        for factor, row in {**factor_rows(cell["factors"]), "all factors": cell["all"]}.items():
            line = [spaced(direction), factor]
            if first and (theirs := outer.get(factor)) is not None:
                line += [number(theirs["accuracy"]), number(theirs["ceiling"]), _of_ceiling(theirs), bounds(theirs)]
                line.append(str(other["n"]))
            else:
                line += ["–"] * len(first)
            line += [number(row["accuracy"]), bounds(row), number(row["ceiling"]), _of_ceiling(row)]
            body.append([*line, *(number(row[k]) for k in ("chance", "shuffled"))])
        for factor, row in factor_rows(cell["free"]).items():
            body.append([spaced(direction), f"{factor} (free)", *["–"] * (len(first) + 6), number(row["entropy"])])
    head = ["direction", "factor", *first, "packaged judge" if read else "accuracy", "95 % interval"]
    head += ["ceiling", "of ceiling", "chance", "shuffled"]
    if any(cell["free"] for cell in cells.values()):
        head.append("entropy")
        body = [line + [""] * (len(head) - len(line)) for line in body]
    return folded("All metrics of this matrix", scrolling(rows(head, body), "All metrics of this matrix"))
