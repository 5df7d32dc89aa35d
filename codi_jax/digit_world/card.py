"""The model card of a packaged model: its config, commit, hours of training, data, metrics and licence."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from codi_jax import __version__, digit_world
from codi_jax.config import ConfigError
from codi_jax.digit_world import checkout
from codi_jax.digit_world.benchmark import outside
from codi_jax.packaged import Package
from codi_jax.train.ledger import stage_costs
from codi_jax.train.recipe import Run, named_sources

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
    """Commit of the checkout of this package; `unknown` if there is no checkout."""
    return checkout.commit() or "unknown"


def _hours(run: Run) -> float:
    """Sum of the hours of all stages of a run, from their cost.json; stages that ran in parallel are added."""
    return round(sum(cost.get("total", 0.0) for cost in stage_costs(run.folder).values()) / 3600, 2)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The card's numbers from metrics.json.

    Returns:
      {"n", "wordings", "outside", "matrix", "held_out", "joint", "sync", "memorisation"}: "matrix" and "held_out" are
      direction -> factor -> {accuracy, ceiling, interval}, "joint" is set of outputs -> factor -> {joint, entropy,
      interval}, as the packaged judges read them; "outside" is {"n", "judges", "matrix", "held_out", "joint"} of the
      outside judges; "sync" is set of outputs -> {joint, independent}, the share in step, and "memorisation" is output
      -> generated -> ratio of distances. What was not measured is missing.
    """
    rates = ("accuracy", "ceiling", "interval")
    columns = {"matrix": rates, "held_out": rates, "joint": ("joint", "entropy", "interval")}

    def row(kind: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
        return {k: numbers[k] for k in columns[kind] if k in numbers}

    read = {
        kind: {
            name: {f: row(kind, numbers) for f, numbers in cell["factors"].items()}
            for name, cell in outside.cells(metrics, kind).items()
        }
        for kind in columns
    }
    others = {k: metrics["pretrained"][k] for k in ("n", "judges")} | read if any(read.values()) else {}
    directions = {
        kind: {
            name: {f: row(kind, numbers) for f, numbers in cell["factors"].items()}
            for name, cell in metrics[kind].items()
        }
        for kind in ("matrix", "held_out")
        if metrics.get(kind)
    }
    joint = {
        name: {f: row("joint", numbers) for f, numbers in cell.items() if f in digit_world.FACTORS}
        for name, cell in metrics["joint"].items()
    }
    extra = {key: value for key, value in (("wordings", metrics.get("wordings")), ("outside", others)) if value}
    out: dict[str, Any] = {"n": metrics["n"], **extra, **directions, "joint": joint}
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


def _read(package: Package) -> dict[str, Any]:
    """The card of a package."""
    return json.loads((package.directory / "card.json").read_text())


def _of_start(start: Package) -> tuple[dict[str, Any], ...]:
    """The card's entries about the runs that trained what a run started from, the first one first.

    Raises:
      ConfigError: the card of the package is missing or lacks an entry.
    """
    try:
        card = _read(start)
        own = {key: card[key] for key in ("config", "commit", "hours", "data")}
        return (*card.get("started_from", ()), own)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{start.directory / 'card.json'}: does not say how the model was trained: {error}") from None


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
        entries = _read(judging)
        return {
            "judges_config": entries["judges_config"],
            "judges_commit": entries.get("judges_commit", entries["commit"]),
            "judges_hours": float(entries["judges_hours"]),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path}: does not say how the judges were trained; name their workdir instead") from None


def card(
    run: Run, judging: Run | Package, dtype: str, parameters: int, about: About, start: Package | None = None
) -> dict[str, Any]:
    """The card of a model.

    Args:
      run: the finished run of the model.
      judging: the run of its judges and similarity towers, or a package that holds them.
      dtype: of the packaged parameters.
      parameters: number of parameters of the model, without judges.
      about: see `About`.
      start: the package whose weights the run started from.

    Returns:
      {"version", "config", "commit", "hours", "judges_config", "judges_commit", "judges_hours", "dtype", "parameters",
      "data", "floors", "numbers", "licence", "origins"}; "numbers" is {} if the run has not been evaluated. With
      `start` also "started_from", a list of {"config", "commit", "hours", "data"}.

    Raises:
      ConfigError: a package has no card that says how it was trained.
    """
    path = run.folder / "metrics.json"
    trained_on = {name for stage in run.stages.values() for name in _sources(run, stage.source)}
    data = {name: dict(run.config.sources[name].items()) for name in sorted(trained_on)}
    before = {} if start is None else {"started_from": list(_of_start(start))}
    every = [data, *(entry["data"] for entry in before.get("started_from", ()))]
    kinds = sorted({source["name"] for sources in every for source in sources.values()})
    return {
        "version": __version__,
        "config": about.config,
        "commit": about.commit or _commit(),
        "hours": _hours(run),
        **before,
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
    return tuple(name for name in named_sources(named) if name in run.config.sources)


Cells = Mapping[str, Mapping[str, Mapping[str, Any]]]


def _text(row: Mapping[str, Any], column: str) -> str:
    if column == "of ceiling":
        return f"{row['accuracy'] / row['ceiling']:.3f}" if row.get("ceiling") else ""
    if (value := row.get(column)) is None:
        return ""
    return f"{value[0]:.3f}-{value[1]:.3f}" if column == "interval" else f"{value:.3f}"


def _rows(
    title: str,
    columns: tuple[str, ...],
    cells: Cells,
    floors: Mapping[str, Mapping[str, float]],
    outside: Cells,
) -> list[str]:
    """A Markdown table; the floors of single numbers, where there are some, are its last column.

    The numbers of the outside judges, where there are some, come first.
    """
    floored = bool(floors.keys() & cells.keys())
    titles = tuple("95 %" if column == "interval" else column for column in columns)
    head = (*(("outside", *titles[1:], "packaged") if outside else titles[:1]), *titles[1:])
    head = (*head, "floor") if floored else head
    lines = [f"| {title} | factor | {' | '.join(head)} |", "|---|---|" + "---|" * len(head)]
    for name, factors in cells.items():
        for factor, row in factors.items():
            numbers = [_text(row, c) for c in columns]
            if outside:
                other = outside.get(name, {}).get(factor, {})
                numbers = [_text(other, c) for c in columns] + numbers
            floor = floors.get(name, {}).get(factor)
            numbers += ["" if floor is None else f"{floor:.3f}"] if floored else []
            lines.append(f"| {name} | {factor} | {' | '.join(numbers)} |")
    return [*lines, ""]


def text(card: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    before = card.get("started_from", ())
    data = [f"- `{name}`: {_describe(source)}" for part in (*before, card) for name, source in part["data"].items()]
    lines = [
        "# Model card",
        "",
        f"{card['parameters']:,} parameters, stored as {card['dtype']}; packaged with codi_jax {card['version']}.",
        "",
        f"- Config: `{card['config'] or 'config.json'}`; judges: `{card['judges_config'] or 'config.json'}`.",
        f"- Commit: {card['commit']}; of the judges: {card['judges_commit']}.",
        f"- Training: {card['hours']:.2f} hours of processes on the model, {card['judges_hours']:.2f} on the judges.",
        *(
            f"- Started from: `{one['config'] or 'config.json'}`, commit {one['commit']}, {one['hours']:.2f} hours."
            for one in card.get("started_from", ())
        ),
        f"- Licence of the weights: {card['licence']}.",
        *(f"- Data, {kind}: {origin}" for kind, origin in card["origins"].items()),
        "",
        "Trained on the sources",
        "",
        *dict.fromkeys(data),
        "",
    ]
    if not (numbers := card["numbers"]):
        return "\n".join([*lines, "The model was not evaluated before it was packaged.", ""])
    wordings = f" in {numbers['wordings']} wordings" if "wordings" in numbers else ""
    head = f"Numbers of `codi-jax evaluate`, n = {numbers['n']}, unseen samples{wordings}; packaged judges read them"
    read: Mapping[str, Any] = numbers.get("outside", {})
    if read:
        names = "; ".join(f"{name}: {network}" for name, network in read["judges"].items())
        head += f", and outside judges the first {read['n']} ({names})"
    lines += [f"{head}.", ""]
    floors = dict(card["floors"] or {})
    cells = floors.pop("cells", {})
    if floors:
        lines += ["Floors: " + ", ".join(f"{name} {value}" for name, value in floors.items()) + ".", ""]
    rates = ("accuracy", "ceiling", "of ceiling", "interval")
    lines += _rows("direction", rates, numbers["matrix"], cells, read.get("matrix", {}))
    if "held_out" in numbers:
        held_out, others = (
            {f"{name}, combinations kept out of training": cell for name, cell in kind.get("held_out", {}).items()}
            for kind in (numbers, read)
        )
        lines += _rows("direction", rates, held_out, {}, others)
    agreements = ("joint", "interval", "entropy")
    joint = _rows("outputs, unconditional", agreements, numbers["joint"], cells, read.get("joint", {}))
    return "\n".join([*lines, *joint, *_measures(numbers)])


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
