"""The model card of a packaged model: its config, commit, hours of training, data, metrics and licence."""

import dataclasses
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codi_jax import __version__, digit_world
from codi_jax.config import ConfigError
from codi_jax.packaged import Package
from codi_jax.train.ledger import stage_costs
from codi_jax.train.recipe import Run

LICENCE = "MIT"
_ORIGINS = {"digit_world": digit_world.ORIGIN}  # name of a source -> the origin of its data


@dataclasses.dataclass(frozen=True)
class About:
    """What the card says and the workdirs do not hold.

    Attributes:
      config, judges_config: the --config arguments of the two runs.
      commit: of the code that trained them; if empty, that of the checkout which contains this package.
    """

    config: str = ""
    judges_config: str = ""
    commit: str = ""


def _commit() -> str:
    """Commit of the checkout of this package, with -dirty if it has changes; `unknown` if there is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _hours(run: Run) -> float:
    """Sum of the hours of all stages of a run, from their cost.json; stages that ran in parallel are added."""
    return round(sum(cost.get("total", 0.0) for cost in stage_costs(run.folder).values()) / 3600, 2)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The card's numbers from metrics.json.

    Returns:
      {"n", "matrix", "held_out", "joint"} and, if they were measured, {"sync", "memorisation"}: "matrix" and "held_out"
      are direction -> factor -> {accuracy, ceiling}, "joint" is set of outputs -> factor -> {joint, entropy}, "sync" is
      set of outputs -> {joint, independent}, the share in step, and "memorisation" is output -> generated -> ratio of
      distances.
    """
    directions = {
        kind: {
            name: {f: {k: row[k] for k in ("accuracy", "ceiling")} for f, row in cell["factors"].items()}
            for name, cell in metrics[kind].items()
        }
        for kind in ("matrix", "held_out")
        if metrics.get(kind)
    }
    joint = {
        name: {f: {k: row[k] for k in ("joint", "entropy")} for f, row in cell.items() if f in digit_world.FACTORS}
        for name, cell in metrics["joint"].items()
    }
    out = {"n": metrics["n"], **directions, "joint": joint}
    if sets := metrics.get("sync", {}).get("sets"):
        kinds = ("joint", "independent")
        out["sync"] = {name: {kind: cell[kind]["same_frame"] for kind in kinds} for name, cell in sets.items()}
    if memory := metrics.get("memorisation"):
        ratios = {name: {t: row.get("ratio") for t, row in cell["outputs"].items()} for name, cell in memory.items()}
        out["memorisation"] = {
            name: {title: ratio for title, ratio in cell.items() if ratio is not None and title != "real"}
            for name, cell in ratios.items()
        }
    return out


def of_judges(judging: Run | Package, about: About) -> dict[str, Any]:
    """The card's entries about judges and similarity towers: "judges_config", "judges_commit" and "judges_hours".

    For judges of a package they are read from its card.

    Raises:
      ConfigError: the card of the package is missing or lacks an entry.
    """
    if isinstance(judging, Run):
        commit = about.commit or _commit()
        return {"judges_config": about.judges_config, "judges_commit": commit, "judges_hours": _hours(judging)}
    path = judging.directory / "card.json"
    try:
        entries = json.loads(path.read_text())
        return {
            "judges_config": entries["judges_config"],
            "judges_commit": entries.get("judges_commit", entries["commit"]),
            "judges_hours": float(entries["judges_hours"]),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path}: does not say how the judges were trained; name their workdir instead") from None


def card(run: Run, judging: Run | Package, dtype: str, parameters: int, about: About) -> dict[str, Any]:
    """The card of a model.

    Args:
      run: the finished run of the model.
      judging: the run of its judges and similarity towers, or a package that holds them.
      dtype: of the packaged parameters.
      parameters: number of parameters of the model, without judges.
      about: see `About`.

    Returns:
      {"version", "config", "commit", "hours", "judges_config", "judges_commit", "judges_hours", "dtype", "parameters",
      "data", "floors", "numbers", "licence", "origins"}; "numbers" is {} if the run has not been evaluated.
    """
    path = run.folder / "metrics.json"
    trained_on = {name for stage in run.stages.values() for name in _sources(run, stage.source)}
    data = {name: dict(run.config.sources[name].items()) for name in sorted(trained_on)}
    kinds = sorted({source["name"] for source in data.values()})
    return {
        "version": __version__,
        "config": about.config,
        "commit": about.commit or _commit(),
        "hours": _hours(run),
        **of_judges(judging, about),
        "dtype": dtype,
        "parameters": parameters,
        "data": data,
        "floors": run.config.evaluate.get("floors", {}),
        "numbers": _numbers(json.loads(path.read_text())) if path.exists() else {},
        "licence": LICENCE,
        "origins": {kind: _ORIGINS[kind] for kind in kinds if kind in _ORIGINS},
    }


def _sources(run: Run, named: str | tuple[str, ...]) -> tuple[str, ...]:
    """The sources of the config that a stage reads directly, without `encode` stages."""
    return tuple(name for name in ((named,) if isinstance(named, str) else named) if name in run.config.sources)


def _rows(
    title: str,
    columns: tuple[str, ...],
    cells: Mapping[str, Mapping[str, Mapping[str, float]]],
    floors: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """A Markdown table; the floors of single numbers, where there are some, are its last column."""
    floored = bool(floors.keys() & cells.keys())
    head = (*columns, "floor") if floored else columns
    lines = [f"| {title} | factor | {' | '.join(head)} |", "|---|---|" + "---|" * len(head)]
    for name, factors in cells.items():
        for factor, row in factors.items():
            numbers = [f"{row[c]:.3f}" for c in columns]
            floor = floors.get(name, {}).get(factor)
            numbers += ["" if floor is None else f"{floor:.3f}"] if floored else []
            lines.append(f"| {name} | {factor} | {' | '.join(numbers)} |")
    return [*lines, ""]


def text(card: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    lines = [
        "# Model card",
        "",
        f"{card['parameters']:,} parameters, stored as {card['dtype']}; packaged with codi_jax {card['version']}.",
        "",
        f"- Config: `{card['config'] or 'config.json'}`; judges: `{card['judges_config'] or 'config.json'}`.",
        f"- Commit: {card['commit']}; of the judges: {card['judges_commit']}.",
        f"- Training: {card['hours']:.2f} hours of processes on the model, {card['judges_hours']:.2f} on the judges.",
        f"- Licence of the weights: {card['licence']}.",
        *(f"- Data, {kind}: {origin}" for kind, origin in card["origins"].items()),
        "",
        "Trained on the sources",
        "",
        *(f"- `{name}`: {_describe(source)}" for name, source in card["data"].items()),
        "",
    ]
    if not (numbers := card["numbers"]):
        return "\n".join([*lines, "The model was not evaluated before it was packaged.", ""])
    lines += [f"Numbers of `codi-jax evaluate`, n = {numbers['n']}, unseen samples; packaged judges read them.", ""]
    floors = dict(card["floors"] or {})
    cells = floors.pop("cells", {})
    if floors:
        lines += ["Floors: " + ", ".join(f"{name} {value}" for name, value in floors.items()) + ".", ""]
    lines += _rows("direction", ("accuracy", "ceiling"), numbers["matrix"], cells)
    if "held_out" in numbers:
        held_out = {f"{name}, combinations kept out of training": cell for name, cell in numbers["held_out"].items()}
        lines += _rows("direction", ("accuracy", "ceiling"), held_out, {})
    lines += _rows("outputs, unconditional", ("joint", "entropy"), numbers["joint"], cells)
    return "\n".join([*lines, *_measures(numbers)])


def _measures(numbers: Mapping[str, Any]) -> list[str]:
    """A line on synchrony and one on memorisation, if they were measured."""
    lines = []
    if sync := numbers.get("sync"):
        shares = (f"{name} {row['joint']:.3f} (alone {row['independent']:.3f})" for name, row in sync.items())
        lines.append(f"Click of the audio in the frame of the video's bounce, generated together: {', '.join(shares)}.")
    if memory := {name: cell for name, cell in numbers.get("memorisation", {}).items() if cell}:
        cells = (f"{name} {', '.join(f'{t} {x:.2f}' for t, x in cell.items())}" for name, cell in memory.items())
        lines.append(f"Median distance to the nearest training sample, over that of real samples: {'; '.join(cells)}.")
    return [text for line in lines for text in (line, "")]


def _describe(source: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {'+'.join(v) if isinstance(v, (list, tuple)) else v}" for key, v in source.items())
