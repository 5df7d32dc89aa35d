"""The metrics of the report: headline tiles, heat maps of the matrix, tables, bars of joint against independent."""

from collections.abc import Mapping, Sequence
from typing import Any

from codi_jax.digit_world import FACTORS, LEADING
from codi_jax.digit_world.benchmark import mixing
from codi_jax.digit_world.benchmark.combinations import subsets
from codi_jax.report import svg
from codi_jax.report.markup import Html, el, figure, number, rows

LIGHT, DARK = (241, 246, 250), (22, 101, 138)  # of the heat maps


def factor_rows(cell: Mapping[str, Any]) -> dict[str, Any]:
    """factor -> row, in the order of the world."""
    return {f: cell[f] for f in FACTORS if f in cell}


def _spaced(title: str) -> str:
    """A direction or set of modalities, formatted for display."""
    return title.replace("->", " → ").replace("+", " + ")


def set_title(name: str, cell: Mapping[str, Any]) -> str:
    """A set of outputs, formatted for display; ★ if no stage trained exactly this set."""
    return _spaced(name) + ("" if cell["trained"] else " ★")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _tile(value: str, title: str, note: str) -> Html:
    parts = el("div", value, class_="value"), el("div", title, class_="title"), el("div", note, class_="note")
    return el("div", parts, class_="tile")


def headline(metrics: Mapping[str, Any]) -> Html:
    """Tiles for the leading factor: mean and lowest accuracy over directions, and agreement of every set of outputs."""
    tiles = []

    def across(title: str, directions: Mapping[str, Any], paired: bool | None) -> None:
        cells = {
            name: cell["factors"][LEADING]
            for name, cell in directions.items()
            if len(set(name.split("->"))) == 2 and LEADING in cell["factors"] and paired in (None, cell["paired"])
        }
        if cells:
            worst = min(cells, key=lambda name: cells[name]["accuracy"])
            ceiling = _mean([row["ceiling"] for row in cells.values()])
            lowest = f"lowest {worst.replace('->', ' → ')} {number(cells[worst]['accuracy'], 2)}"
            value = number(_mean([row["accuracy"] for row in cells.values()]), 2)
            tiles.append(_tile(value, title, f"ceiling {number(ceiling, 2)}; {lowest}"))

    across(f"{LEADING} accuracy, paired directions", metrics["matrix"], True)
    across(f"{LEADING} accuracy, unpaired directions", metrics["matrix"], False)
    across(f"{LEADING} accuracy, held-out combinations", metrics["held_out"], None)
    for name, cell in metrics["joint"].items():
        for factor, row in list(factor_rows(cell).items())[:1]:
            note = f"alone {number(row['independent'], 2)}, chance {number(row['chance'], 2)}"
            note += "" if cell["trained"] else "; ★ never trained as a set"
            tiles.append(_tile(number(row["joint"], 2), f"{set_title(name, cell)} agree on the {factor}", note))
    return el("div", tiles, class_="tiles")


def _shade(value: float) -> str:
    t = min(max(value, 0.0), 1.0)
    red, green, blue = (round(a + (b - a) * t) for a, b in zip(LIGHT, DARK, strict=True))
    return f"background:rgb({red},{green},{blue});color:{'#fff' if t > 0.55 else 'inherit'}"


def _heat(names: Sequence[str], cells: Mapping[str, Any], factor: str) -> Html:
    def cell(a: str, b: str) -> Html:
        direction = cells.get(f"{a}->{b}", {"factors": {}})
        row = direction.get("all") if factor == "all" else direction["factors"].get(factor)
        if row is None:
            return el("td", "–", class_="none")
        low, high = row["interval"]
        hint = f"{row['accuracy']:.3f}, 95 % interval {low:.3f} to {high:.3f}; shuffled {row['shuffled']:.3f}"
        small = f"of {number(row['ceiling'], 2)}" + ("" if direction["paired"] else " ★")
        return el(
            "td", el("b", number(row["accuracy"], 2)), el("small", small), style=_shade(row["accuracy"]), title=hint
        )

    head = el("tr", el("th", "in \\ out"), [el("th", name, scope="col") for name in names])
    body = [el("tr", el("th", a, scope="row"), [cell(a, b) for b in names]) for a in names]
    return el("div", el("h4", "all factors" if factor == "all" else factor), el("table", head, body, class_="heat"))


def heat_maps(names: Sequence[str], cells: Mapping[str, Any], caption: Any) -> Html:
    """A heat map for each factor, prompts in rows and outputs in columns, and one for all shared factors jointly."""
    present = [f for f in FACTORS if any(f in cell["factors"] for cell in cells.values())]
    return figure(el("div", [_heat(names, cells, f) for f in (*present, "all")], class_="row"), caption)


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
        return el("td", f"{rate:.2f}".removeprefix("0"), style=_shade(rate), title=f"{hint} (n = {row['n']})")

    head = el("tr", el("th", "in \\ out"), [el("th", title(s), scope="col") for s in sets])
    body = [el("tr", el("th", title(a), scope="row"), [cell(a, b) for b in sets]) for a in sets]
    legend = ", ".join(f"{letter} {name}" for name, letter in short.items())
    return figure(el("table", head, body, class_="heat small"), (caption, f" {legend}."))


def mix_curves(curves: Mapping[str, Any], caption: Any) -> Html:
    """Mix-weight curves: accuracy with respect to each prompt as the weight moves from the first to the second."""
    plots = []
    for title, curve in curves.items():
        a, b, output = mixing.parse_title(title)
        series = [
            (name, list(zip(curve["weights"], curve[LEADING][name], strict=True)), class_)
            for name, class_ in ((a, "a"), (b, "b"))
        ]
        plots.append(el("div", el("h4", f"{a} against {b} → {output}"), svg.unit_curves(series, title), class_="plot"))
    return figure(el("div", plots, class_="row"), caption)


def matrix_table(names: Sequence[str], cells: Mapping[str, Any]) -> Html:
    """All metrics of all directions."""
    body = []
    for direction in (f"{a}->{b}" for a in names for b in names if f"{a}->{b}" in cells):
        cell = cells[direction]
        for factor, row in {**factor_rows(cell["factors"]), "all factors": cell["all"]}.items():
            low, high = row["interval"]
            numbers = [number(row[k]) for k in ("ceiling", "chance", "shuffled")]
            body.append([_spaced(direction), factor, number(row["accuracy"]), f"{low:.3f} to {high:.3f}", *numbers])
        for factor, row in factor_rows(cell["free"]).items():
            body.append([_spaced(direction), f"{factor} (free)", *["–"] * 5, number(row["entropy"])])
    head = ["direction", "factor", "accuracy", "95 % interval", "ceiling", "chance", "shuffled"]
    if any(cell["free"] for cell in cells.values()):
        head.append("entropy")
        body = [line + [""] * (len(head) - len(line)) for line in body]
    return el("details", el("summary", "All metrics of this matrix"), el("div", rows(head, body), class_="scroll"))


def joint_bars(joint: Mapping[str, Any], caption: Any) -> Html:
    """A plot for each set of outputs: agreement together, alone, shuffled and by chance, for every factor."""
    bars = (("together", "joint", "a"), ("alone", "independent", "b"), ("shuffled", "shuffled", "c"))
    plots = []
    for name, cell in joint.items():
        groups = [
            (factor, [(label, row[key], class_) for label, key, class_ in bars], row["chance"])
            for factor, row in factor_rows(cell).items()
        ]
        if groups:
            plot = svg.bars(groups, f"Agreement of {_spaced(name)}, together, alone and shuffled")
            plots.append(el("div", el("h4", set_title(name, cell)), plot, class_="plot"))
    return figure(el("div", plots, class_="plots"), caption)


def joint_table(joint: Mapping[str, Any], real: Mapping[str, Any], caption: Any) -> Html:
    """Agreement and chance of every set, and the entropy and Fréchet distance of each of its outputs."""
    body = []
    for name, cell in joint.items():
        for factor, row in factor_rows(cell).items():
            low, high = row["interval"]
            numbers = [
                number(row["joint"]),
                f"{low:.3f} to {high:.3f}",
                number(row["independent"]),
                number(row["chance"]),
            ]
            shared = [set_title(name, cell), factor, *numbers]
            for output in (m for m in name.split("+") if m in row["outputs"]):
                detail = row["outputs"][output]
                entropies = [number(detail[k]) for k in ("entropy", "entropy_independent")]
                distances = [number(detail.get(k), 2) for k in ("fidelity", "fidelity_independent")]
                body.append([*shared, output, *entropies, *distances, number(real.get(output, {}).get("fidelity"), 2)])
                shared = [""] * len(shared)  # only in the row of the first output
    head = [
        *("outputs", "factor", "agree", "95 % interval", "alone", "chance", "output"),
        *("entropy", "entropy alone", "distance", "distance alone", "distance of real"),
    ]
    return figure(rows(head, body), caption)


def pretrained_judges(metrics: Mapping[str, Any], caption: Any) -> Html:
    """Metrics from pretrained judges: accuracy and ceiling of directions, agreement of sets together and alone."""
    read = [[_spaced(d), number(row["accuracy"]), number(row["ceiling"])] for d, row in metrics["matrix"].items()]
    agree = [[_spaced(s), number(row["joint"]), number(row["independent"])] for s, row in metrics["joint"].items()]
    tables = [rows([LEADING, "accuracy", "ceiling"], read)] if read else []
    tables += [rows([f"same {LEADING}", "together", "alone"], agree)] if agree else []
    networks = "; ".join(f"{name}: {network}" for name, network in metrics["judges"].items())
    return figure(el("div", tables, class_="row"), (caption, f" {networks}."))


def similarity(sim: Mapping[str, Any], caption: Any) -> Html:
    """SIM of every set of outputs."""
    columns = ("joint", "independent", "shuffled")
    body = [[_spaced(name), *(number(row[c]) for c in columns)] for name, row in sim.items()]
    return figure(rows(["cosine", "together", "alone", "shuffled"], body), caption)
