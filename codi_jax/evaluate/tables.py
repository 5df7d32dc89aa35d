"""The metrics as text."""

from collections.abc import Mapping
from typing import Any

from codi_jax.evaluate import combinations
from codi_jax.parallel.tables import table as aligned


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(bounds: list[float]) -> str:
    return f"{bounds[0]:.3f}-{bounds[1]:.3f}"


def _rates(title: str, columns: tuple[str, ...], cells: Mapping[str, Mapping[str, float]]) -> str:
    lines = [(title, *columns), *((name, *(_number(cell[c]) for c in columns)) for name, cell in cells.items())]
    return aligned(lines, right=range(1, 1 + len(columns)))


def _directions(directions: Mapping[str, Any]) -> str:
    head = (
        "direction",
        "paired",
        "factor",
        "accuracy",
        "95 %",
        "ceiling",
        "of ceiling",
        "chance",
        "shuffled",
        "entropy",
    )
    lines = [head]
    for name, cell in directions.items():
        paired = "yes" if cell["paired"] else "no"
        for factor, row in {**cell["factors"], "all": cell["all"]}.items():
            part = row["accuracy"] / row["ceiling"] if row["ceiling"] else None
            numbers = (_number(row[k]) for k in ("chance", "shuffled"))
            lines.append(
                (
                    name,
                    paired,
                    factor,
                    _number(row["accuracy"]),
                    _interval(row["interval"]),
                    _number(row["ceiling"]),
                    _number(part),
                    *numbers,
                    "",
                )
            )
        for factor, row in cell["free"].items():
            lines.append((name, paired, factor, *[""] * 6, _number(row["entropy"])))
    if not any(cell["free"] for cell in directions.values()):
        lines = [line[:-1] for line in lines]
    return aligned(lines, right=range(3, len(lines[0])))


def _codecs(codecs: Mapping[str, Any]) -> str:
    lines = [("codec", "factor", "kept", "95 %", "ceiling", "of ceiling")]
    for name, cell in codecs.items():
        for factor, row in cell["factors"].items():
            part = row["accuracy"] / row["ceiling"] if row["ceiling"] else None
            numbers = _number(row["accuracy"]), _interval(row["interval"]), _number(row["ceiling"]), _number(part)
            lines.append((name, factor, *numbers))
    return aligned(lines, right=range(2, 6))


def _joint(sets: Mapping[str, Any]) -> str:
    columns = ("joint", "interval", "independent", "shuffled", "chance", "entropy")
    lines = [("outputs", "trained", "factor", *(c.replace("interval", "95 %") for c in columns), "fidelity", "alone")]
    for name, cell in sets.items():
        for factor, row in cell.items():
            if factor in ("n", "trained"):
                continue
            distances = [out.get("fidelity_independent") for out in row["outputs"].values()]
            alone = max((d for d in distances if d is not None), default=None)
            numbers = (_interval(row[c]) if c == "interval" else _number(row[c]) for c in columns)
            trained = "yes" if cell["trained"] else "no"
            lines.append((name, trained, factor, *numbers, _number(row["fidelity"], 2), _number(alone, 2)))
    return aligned(lines, right=range(3, len(lines[0])))


def table(metrics: Mapping[str, Any]) -> str:
    """What `codi-jax evaluate` prints: codecs, the matrix, held-out combinations, joint sets, real samples."""
    n = metrics["n"]
    parts = [f"Real samples, encoded and decoded, n = {n}", _codecs(metrics["codec"]), ""]
    parts += [f"Prompt to output, n = {n}, unseen test samples", _directions(metrics["matrix"])]
    if metrics["held_out"]:
        parts += [
            "",
            f"The same, n = {n}, combinations of factors kept out of training",
            _directions(metrics["held_out"]),
        ]
    if metrics.get("combinations"):
        said = combinations.summary(metrics["combinations"])
        parts += ["", f"Every set of prompts to every set of outputs: {said['cells']} cells, digit {said['digit']:.3f}"]
        parts += ["lowest: " + ", ".join(f"{cell} {rate:.2f}" for cell, rate in said["worst"].items())]
    if metrics["joint"]:
        parts += ["", f"Outputs together under the open prompt, n = {n}", _joint(metrics["joint"])]
    if said := metrics.get("pretrained"):
        parts += ["", f"Digit, read by networks that never met this world, n = {said['n']}"]
        parts += [", ".join(f"{name}: {who}" for name, who in said["judges"].items())]
        parts += [_rates("direction", ("accuracy", "ceiling"), said["matrix"])] if said["matrix"] else []
        parts += [_rates("outputs", ("joint", "independent"), said["joint"])] if said["joint"] else []
    if metrics.get("sim"):
        parts += ["", "Cosine of outputs generated together, by towers that no generator knew"]
        parts += [_rates("SIM", ("joint", "independent", "shuffled"), metrics["sim"])]
    distances = {m: row["fidelity"] for m, row in metrics["real"].items() if row["fidelity"] is not None}
    if distances:
        said = ", ".join(f"{m} {_number(d, 2)}" for m, d in distances.items())
        parts += ["", f"fidelity: Fréchet distance in the judge's features; other real samples reach: {said}"]
    return "\n".join(parts)
