"""The metrics of sets of outputs that are generated together, beside their controls.

Generated alone from the same noise, outputs of other samples (shuffled), and chance: what marginals alone would give.
"""

from collections.abc import Mapping
from typing import Any

from codi_jax.digit_world import LEADING
from codi_jax.digit_world.benchmark import outside
from codi_jax.digit_world.report.numbers import bounds, factor_rows, outside_factors, set_title, shaded, spaced
from codi_jax.report import svg
from codi_jax.report.markup import Html, el, figure, folded, number, rows


def controls(metrics: Mapping[str, Any], caption: Any) -> Html:
    """A line for each set: agreement on its first factor together, with its interval, alone, shuffled and by chance.

    By the outside judges where they read the factor; a number of the packaged judges is in brackets then.
    """
    read, body = outside.cells(metrics, "joint"), []
    for name, cell in metrics["joint"].items():
        for factor, row in list(factor_rows(cell).items())[:1]:
            packaged, n = "", cell["n"]
            if (other := outside_factors(read, name).get(factor)) is not None:
                packaged, row, n = (
                    f" ({number(row['joint'], 2)})",
                    {"shuffled": None, "chance": None, **other},
                    read[name]["n"],
                )
            together = el("span", el("b", number(row["joint"])), packaged, class_="cell", style=shaded(row["joint"]))
            others = (number(row[key]) for key in ("independent", "shuffled", "chance"))
            title = [set_title(name, cell), "" if factor == LEADING else f" ({factor})"]
            body.append([title, together, bounds(row), *others, n])
    head = ["outputs", "together", "95 % interval", "alone", "shuffled", "chance", "n"]
    return figure(rows(head, body), caption, "Sets of outputs with their controls")


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
            plot = svg.bars(groups, f"Agreement of {spaced(name)}, together, alone and shuffled")
            plots.append(el("div", el("h3", set_title(name, cell)), plot, class_="plot"))
    return figure(el("div", plots, class_="plots"), caption)


def joint_table(joint: Mapping[str, Any], real: Mapping[str, Any], caption: Any, read: Mapping[str, Any]) -> Html:
    """Agreement and chance of every set, and the entropy and Fréchet distance of each of its outputs.

    `read` has the cells of the outside judges, and is {} without any.
    """
    body = []
    first = ["outside judges agree", "95 % interval", "alone", "shuffled", "n"] if read else []
    for name, cell in joint.items():
        for factor, row in factor_rows(cell).items():
            numbers = ["–"] * len(first)
            if (other := outside_factors(read, name).get(factor)) is not None:
                numbers = [number(other["joint"]), bounds(other), number(other["independent"])]
                numbers += [number(other.get("shuffled")), str(read[name]["n"])]
            numbers += [
                number(row["joint"]),
                bounds(row),
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
        *(
            "outputs",
            "factor",
            *first,
            "packaged judges agree" if read else "agree",
            "95 % interval",
            "alone",
            "chance",
            "output",
        ),
        *("entropy", "entropy alone", "distance", "distance alone", "distance of real"),
    ]
    return folded("All metrics of these sets", figure(rows(head, body), caption, "All metrics of these sets"))


def similarity(sim: Mapping[str, Any], caption: Any) -> Html:
    """SIM of every set of outputs."""
    columns = ("joint", "independent", "shuffled")
    body = [[spaced(name), *(number(row[c]) for c in columns)] for name, row in sim.items()]
    return figure(rows(["cosine", "together", "alone", "shuffled"], body), caption, "SIM of every set")
