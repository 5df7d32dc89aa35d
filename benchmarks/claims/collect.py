"""An evaluated run as one small file of docs/claims: the numbers that tables use, and where they come from.

    {"name", "note", "trained_with": the argument of --config, "commit": of the evaluation, "trained_commit",
     "hours": of processes, "seeds": {"training", "sampling"}, "split", "n", "steps": {stage: steps},
     "judges": {"outside", "packaged"}, "paired", "trained", "frechet", "sim", "codec", "combinations", "sync",
     "diversity", "memorisation"}

`claims.judged` has the layout of the numbers. What a workdir does not have is left out.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims.cells import average
from benchmarks.claims.runs import DIGIT
from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.digit_world.benchmark import trained
from codi_jax.digit_world.benchmark.compare import read
from codi_jax.digit_world.benchmark.order import in_order
from codi_jax.packaged import open_package
from codi_jax.train.recipe import open_run

ROW = ("accuracy", "joint", "independent", "ceiling", "shuffled", "chance", "entropy", "interval", "n_effective")
# The parts of the evaluation that runs of these names need; others need all, of which the 225 cells are half.
NEEDED = {r"ablation\..*": ("joint",), r"seed[1-9]\d*": ("directions", "held_out", "joint")}
AS_THEY_ARE = ("sync", "diversity", "memorisation")
NAME = re.compile(r"(seed\d+|packaged|demo|ablation\.[\w=.+-]+)")


def collect(
    workdir: Path | None,
    name: str,
    *,
    measured: Path | None = None,
    note: str = "",
    trained_with: str = "",
    commit: str = "",
    card: Path | None = None,
    allow_dirty: bool = False,
) -> dict[str, Any]:
    """The content of a file of docs/claims.

    Args:
      workdir: of an evaluated run; None for the numbers of the card, or for a package evaluated in `measured`.
      measured: folder of the evaluation, if it is not the workdir.
      name: of the file, see `benchmarks.claims`.
      note: what a reader of the tables must know about the run.
      trained_with: the argument of --config of its training.
      commit: of the evaluation, if its metrics do not say it.
      card: card.json of a package, whose model was evaluated in the workdir: it says how it was trained.
      allow_dirty: whether to accept an evaluation by a checkout with changes.

    Raises:
      ConfigError: an unknown kind of name, no metrics, metrics of validation samples, of a part of the evaluation, of
        weights from before the last training, or of a checkout with changes or without a commit.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"--name={name}: expected seedK, packaged, demo or ablation.NAME")
    about = storage.read_json(card) if card else {}
    if (folder := measured or workdir) is None:
        metrics, config = _of_card(card)
        commit, stages = about["commit"], {}
    else:
        metrics, config = read(folder), _config(workdir, card)
        commit = str(metrics.get("commit") or commit)
        _refuse_others(folder, metrics, config, commit, allow_dirty, needed(name))
        stages = _optional(folder / "cost.json").get("stages", {})
        _refuse_stale(workdir, stages)
    hours = sum(stage.get("total", 0.0) for stage in stages.values()) / 3600
    out = {
        "name": name,
        "note": note,
        "trained_with": about.get("config") or trained_with,
        "commit": commit,
        "trained_commit": about.get("commit") if folder else None,
        "hours": about.get("hours") or (round(hours, 2) if stages else None),
        "seeds": {"training": metrics.get("training_seed", config.get("seed", 0)), "sampling": metrics.get("seed")},
        "split": metrics.get("split", "test"),
        "n": metrics["n"],
        "steps": _steps(config),
        "judges": {"outside": _outside(metrics.get("pretrained") or {}), "packaged": _packaged(metrics)},
        "paired": {direction: cell["paired"] for direction, cell in metrics["matrix"].items() if "paired" in cell},
        "trained": {outputs: cell["trained"] for outputs, cell in metrics["joint"].items() if "trained" in cell},
        "frechet": {outputs: _frechet(cell) for outputs, cell in metrics["joint"].items()},
        "sim": {
            outputs: {key: cell[key] for key in ("joint", "independent", "shuffled") if key in cell}
            for outputs, cell in (metrics.get("sim") or {}).items()
        },
        "codec": {modality: _factors(cell) for modality, cell in (metrics.get("codec") or {}).items()},
        "combinations": _combinations(metrics),
        **{key: metrics.get(key) for key in AS_THEY_ARE},
    }
    return _filled(out)


def _of_card(card: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The numbers of the card of a package, as metrics.json has them, and the config of its training."""
    if card is None or not (numbers := storage.read_json(card).get("numbers")):
        raise ConfigError("collect needs --workdir of an evaluated run, or --card of a package that has been evaluated")
    config = open_package(str(card.parent)).run
    stages = [stage for group in open_run(config, None).config.stages.values() for stage in group.values()]
    metrics = {"n": numbers["n"], "held_out": {}}
    for kind in ("matrix", "held_out"):
        metrics[kind] = {
            name: {"paired": trained.is_paired(stages, *name.split("->")), "factors": rows}
            for name, rows in numbers.get(kind, {}).items()
        }
    metrics["joint"] = {
        name: {"trained": trained.trained_together(stages, name.split("+")), **rows}
        for name, rows in numbers["joint"].items()
    }
    return in_order(metrics), config


def _config(workdir: Path | None, card: Path | None) -> dict[str, Any]:
    if workdir is None:
        return open_package(str(card.parent)).run if card else {}
    return _optional(workdir / "config.json")


def _optional(path: Path) -> dict[str, Any]:
    return storage.read_json(path) if path.exists() else {}


def needed(name: str) -> tuple[str, ...] | None:
    """The parts that a run needs; None for all."""
    return next((parts for pattern, parts in NEEDED.items() if re.fullmatch(pattern, name)), None)


def _refuse_others(
    workdir: Path,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    commit: str,
    allow_dirty: bool,
    parts: Sequence[str] | None,
) -> None:
    """Raises ConfigError unless the metrics are of test samples, of these parts (all if None), and of a commit."""
    again = f"run `codi-jax evaluate --workdir {workdir}`"
    if not config and "split" not in metrics:
        raise ConfigError(f"{workdir}: has no config.json, and metrics.json does not say of which split it is: {again}")
    seen = config.get("evaluate", {}).get("seen", "test_seen")
    splits = {metrics.get("split", "test"), config.get("sources", {}).get(seen, {}).get("split", "test")}
    if wrong := sorted(splits - {"test"}):
        raise ConfigError(f"{workdir}: metrics of the split {wrong[0]!r}; results are of test samples: {again}")
    modalities = list(metrics.get("codec") or {})
    expected = len(modalities) ** 2, 2 ** len(modalities) - 1 - len(modalities)
    measured = metrics.get("parts", "all")
    whole = measured == "all" and modalities and (len(metrics["matrix"]), len(metrics["joint"])) == expected
    enough = measured != "all" and parts is not None and set(parts) <= set(measured)
    if not whole and not enough:
        named = f" ({', '.join(measured)})" if isinstance(measured, list) else ""
        raise ConfigError(f"{workdir}: only a part of the evaluation was measured{named}: {again}")
    if not commit or commit == "unknown":
        raise ConfigError(f"{workdir}: its metrics name no commit; evaluate in a checkout, or name it with --commit")
    if commit.endswith("-dirty") and not allow_dirty:
        raise ConfigError(f"{workdir}: evaluated by a checkout with changes, {commit}; commit them and {again}")


def _refuse_stale(workdir: Path | None, stages: Mapping[str, Any]) -> None:
    """Raises ConfigError if a stage was trained after the evaluation, whose cost.json says how far each one was."""
    for path in sorted(workdir.glob("stages/*/cost.json")) if workdir else ():
        then, now = stages.get(path.parent.name, {}), storage.read_json(path)
        if then.get("reached") != now.get("reached"):
            raise ConfigError(f"{workdir}: {path.parent.name} was trained after the evaluation; evaluate the run again")


def _steps(config: Mapping[str, Any]) -> dict[str, int]:
    """Steps of every stage that has some."""
    return {
        f"{group}.{name}": stage["steps"]
        for group, stages in config.get("stages", {}).items()
        for name, stage in stages.items()
        if stage.get("steps")
    }


def _row(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {key: cell[key] for key in ROW if cell.get(key) is not None}


def _factors(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of a cell by factor: below "factors", directly in the cell, or the cell itself for the digit."""
    of = cell.get("factors", cell)
    rows = {factor: _row(row) for factor, row in of.items() if isinstance(row, Mapping) and _row(row)}
    return rows or {DIGIT: _row(cell)}


def _cells(cells: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: _factors(cell) for name, cell in (cells or {}).items()}


def _packaged(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: _cells(metrics.get(kind)) for kind in ("matrix", "held_out", "joint")}


def _outside(read: Mapping[str, Any]) -> dict[str, Any]:
    """What judges from elsewhere read; nothing if they were not installed."""
    cells = {kind: _cells(read.get(kind)) for kind in ("matrix", "held_out", "joint")}
    if not any(cells.values()):
        return {}
    outputs = {name.split("->")[-1] for name in cells["matrix"]}
    networks = {m: network for m, network in read.get("judges", {}).items() if m in outputs or not outputs}
    return {"n": read.get("n"), "networks": networks, **cells}


def _frechet(cell: Mapping[str, Any]) -> dict[str, list[float]]:
    """Fréchet distances to real samples by output, generated together and alone."""
    keys = ("fidelity", "fidelity_independent")
    outputs = cell.get(DIGIT, {}).get("outputs", {})
    return {name: [row[key] for key in keys] for name, row in outputs.items() if all(key in row for key in keys)}


def _combinations(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy of the digit in every cell, the mean over its outputs, and of the other factors over all cells."""
    cells = metrics.get("combinations") or {}
    if not cells:
        return {}
    interval = (metrics.get("combinations_mean") or {}).get("interval")
    rates: dict[str, dict[str, float]] = {}
    for name, cell in cells.items():
        for factor, of in cell.items():
            if factor not in ("n", "upper") and isinstance(of, Mapping) and (mean := average(of.values())) is not None:
                rates.setdefault(factor, {})[name] = round(mean, 4)
    others = {factor: round(average(of.values()) or 0.0, 4) for factor, of in rates.items() if factor != DIGIT}
    n = next(iter(cells.values())).get("n")
    return {"n": n, "interval": interval, "cells": rates[DIGIT], "factors": others}


def _filled(tree: Any) -> Any:
    """A tree without what is empty or None."""
    if not isinstance(tree, Mapping):
        return tree
    filled = {key: _filled(value) for key, value in tree.items()}
    return {key: value for key, value in filled.items() if value is not None and value not in ({}, [], "")}


def dumps(tree: Mapping[str, Any], indent: str = "") -> str:
    """JSON with a line for each innermost mapping."""
    if not any(isinstance(value, Mapping) for value in tree.values()):
        return json.dumps(tree, ensure_ascii=False)
    inner = indent + " "
    lines = [
        f"{inner}{json.dumps(key, ensure_ascii=False)}: "
        + (dumps(value, inner) if isinstance(value, Mapping) else json.dumps(value, ensure_ascii=False))
        for key, value in tree.items()
    ]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
