"""Metrics as text tables."""

from collections.abc import Mapping
from typing import Any

from codi_jax.digit_world.benchmark import combinations, sync
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
    lines: list[tuple[str, ...]] = [head]
    for name, cell in directions.items():
        paired = "yes" if cell["paired"] else "no"
        for factor, row in {**cell["factors"], "all": cell["all"]}.items():
            relative = row["accuracy"] / row["ceiling"] if row["ceiling"] else None
            numbers = (_number(row[k]) for k in ("chance", "shuffled"))
            lines.append(
                (
                    name,
                    paired,
                    factor,
                    _number(row["accuracy"]),
                    _interval(row["interval"]),
                    _number(row["ceiling"]),
                    _number(relative),
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
    lines = [("codec", "factor", "accuracy", "95 %", "ceiling", "of ceiling")]
    for name, cell in codecs.items():
        for factor, row in cell["factors"].items():
            relative = row["accuracy"] / row["ceiling"] if row["ceiling"] else None
            numbers = _number(row["accuracy"]), _interval(row["interval"]), _number(row["ceiling"]), _number(relative)
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
    n = metrics["n"]
    parts = [f"Real samples, encoded and decoded, n = {n}", _codecs(metrics["codec"]), ""]
    parts += [f"Prompt to output, n = {n}, unseen test samples", _directions(metrics["matrix"])]
    if metrics["held_out"]:
        parts += [
            "",
            f"Prompt to output, n = {n}, combinations of factors held out of training",
            _directions(metrics["held_out"]),
        ]
    if metrics.get("combinations"):
        mean = combinations.summary(metrics["combinations"])
        parts += ["", f"Every set of prompts to every set of outputs: {mean['cells']} cells, digit {mean['digit']:.3f}"]
        parts += ["lowest: " + ", ".join(f"{cell} {rate:.2f}" for cell, rate in mean["worst"].items())]
    if metrics["joint"]:
        parts += ["", f"Outputs generated together from the null prompt, n = {n}", _joint(metrics["joint"])]
    if read := metrics.get("pretrained"):
        parts += ["", f"Digit, read by pretrained judges, n = {read['n']}"]
        parts += [", ".join(f"{name}: {network}" for name, network in read["judges"].items())]
        parts += [_rates("direction", ("accuracy", "ceiling"), read["matrix"])] if read["matrix"] else []
        parts += [_rates("outputs", ("joint", "independent"), read["joint"])] if read["joint"] else []
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
    return "\n".join(parts)
