"""The plan of a recipe: one row per stage, the cost of the whole training, and tables of them."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.parallel import MeshConfig
from codi_jax.parallel.tables import size, table
from codi_jax.plan import cache
from codi_jax.plan.fit import changes, nearest, with_remat
from codi_jax.plan.row import Row, compiled_row
from codi_jax.plan.sweep import COMPILED, NOMINAL, candidates
from codi_jax.plan.target import Target
from codi_jax.progress import ProgressFn, calling_every, duration
from codi_jax.train.recipe import Run

_RANKED = (
    f"the peaks of this hardware are unknown; --sweep has ranked by {NOMINAL.flops / NOMINAL.bandwidth:g} FLOPs a byte "
    f"of memory and {NOMINAL.flops / NOMINAL.interconnect:g} a byte from other devices"
)


def plan(
    run: Run,
    stages: tuple[str, ...],
    target: Target,
    mesh: MeshConfig,
    batch_size: int | None = None,
    sweep: bool = False,
    directory: Path | None = None,
    progress: ProgressFn | None = None,
) -> list[Row]:
    """Rows of the named stages, or of all stages that train.

    If a stage does not fit, the nearest changes with which it should fit are compiled, too, until one does.

    Args:
      run: the recipe; no stage has to be finished.
      stages: names of stages; empty for all.
      target: the hardware.
      mesh: of its devices.
      batch_size: global batch size for all stages; None for that of each stage.
      sweep: whether to also compile the most promising other meshes, batches and remat, three rows per stage in total.
      directory: cache of rows; None for no cache.
      progress: called when a stage is traced or compiled, and regularly during compilation.

    Raises:
      ConfigError: a stage does not exist or does not fit the devices.
    """
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"--batch: expected a positive number, got {batch_size}")
    training = [name for name in run.order if run.stage(name).trains]
    for name in stages:
        run.stage(name)
    rows = []
    for name in stages or training:
        first = _row(run, name, target, mesh, batch_size or run.stage(name).batch_size, directory, progress)
        rows.append(first)
        if first["fits"] is False:
            for other_mesh, other_batch, remat in changes(run, first, target)[:COMPILED]:
                other = with_remat(run, remat)
                rows.append(_row(other, name, target, MeshConfig(**other_mesh), other_batch, directory, progress))
                if rows[-1]["fits"]:
                    break
        if sweep:
            for other, other_mesh, other_batch in candidates(run, first, target):
                rows.append(_row(other, name, target, other_mesh, other_batch, directory, progress))
            if target.chip is None:
                first["notes"] = [*first["notes"], _RANKED]
    return rows


def _row(
    run: Run,
    name: str,
    target: Target,
    mesh: MeshConfig,
    batch_size: int,
    directory: Path | None,
    progress: ProgressFn | None,
) -> Row:
    key = cache.key(run, name, target, mesh, batch_size)
    file = directory / key if directory else None
    row = cache.read(directory, key) if directory else None
    if row is not None:
        if progress is not None:
            progress(f"{name} was compiled before ({file}.json)")
    else:
        with _heartbeat(progress, f"still compiling {name}"):
            row = compiled_row(run, name, target, mesh, batch_size, progress)
        row["nearest"] = nearest(run, row, target) if row["fits"] is False else []
        if directory:
            cache.write(directory, key, row)
    return row | {"training": training(run, name, row)}


@contextlib.contextmanager
def _heartbeat(progress: ProgressFn | None, activity: str, every: float = 30.0) -> Iterator[None]:
    """Calls `progress` regularly during the block, since a compilation may take many minutes without output."""
    if progress is None:
        yield
        return
    start = time.monotonic()
    with calling_every(every, lambda: progress(f"{activity}, {duration(time.monotonic() - start)} so far")):
        yield


def training(run: Run, name: str, row: Row) -> dict[str, Any]:
    """The cost of a whole stage at its bound. The number of samples is that of its config, whatever the batch size."""
    samples, rate = run.stage(name).steps * run.stage(name).batch_size, row["samples_per_chip_hour"]
    hours = samples / rate if rate else None
    return {"samples": samples, "chip_hours": hours, "days": hours / row["chips"] / 24 if hours else None}


def _mesh(mesh: dict[str, int]) -> str:
    return " × ".join(f"{axis} {length}" for axis, length in mesh.items() if length > 1) or "one device"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _largest(row: Row) -> tuple[str, str, str]:
    """What takes most of the resource that determines the bound."""

    def amount(group: dict[str, Any]) -> str:
        return f"{group['flops'] / 1e12:.3g} TFLOP" if "flops" in group else size(group["bytes"])

    found = row["largest"]
    groups = (f"{group['what']} {group['array']} ({amount(group)})" for group in found["groups"])
    return row["stage"], found["of"], ", ".join(groups) or "–"


def shown(rows: list[Row]) -> str:
    """The rows as text: memory and bounds, collectives, what is largest, and suggestions for stages that do not fit."""
    head = ("stage", "mesh", "batch per chip", "arguments", "temporaries", "peak", "limit", "fits")
    head += (
        "TFLOP per step",
        "of the model",
        "on matrix units",
        "bound",
        "by",
        "MFU ≤",
        "samples per chip-hour",
        "chip-hours",
        "days",
        "compiled in",
    )
    lines: list[tuple[str, ...]] = [head]
    sent = [("stage", "collective", "count", "bytes per device")]
    for row in rows:
        memory, seconds, whole = row["hbm"], row["seconds"], row["training"]
        held = [
            size(memory[k]) if memory[k] is not None else "–" for k in ("arguments", "temporaries", "peak", "limit")
        ]
        fits = {True: "yes", False: "NO", None: "–"}[row["fits"]]
        lines.append(
            (
                *(
                    row["stage"],
                    _mesh(row["mesh"]) + ("" if row["remat"] == "none" else f", remat {row['remat']}"),
                    f"{row['batch_per_chip']:g}",
                    *held,
                    fits,
                ),
                *(_number(row[f"{kind}flops_per_step"] / 1e12, "{:.3g}") for kind in ("", "model_", "unit_")),
                _number(row["bound_seconds"] and 1e3 * row["bound_seconds"], "{:.3g} ms"),
                max(seconds, key=seconds.get) if seconds else "–",
                _number(row["mfu_bound"], "{:.0%}"),
                _number(row["samples_per_chip_hour"], "{:,.0f}"),
                _number(whole["chip_hours"], "{:,.1f}"),
                _number(whole["days"], "{:.2g}"),
                duration(row["compile_seconds"]),
            )
        )
        for kind, traffic in row["collectives"].items():
            sent.append((row["stage"], kind, str(traffic["count"]), size(traffic["bytes"])))
    text = [f"{rows[0]['topology']}, {rows[0]['chips']} chips", table(lines, right=(2, 3, 4, 5, 6, *range(8, 18)))]
    if len(sent) > 1:
        text += ["", table(sent, right=(2, 3))]
    text += ["", table([("stage", "most of", "is"), *(_largest(row) for row in rows)])]
    text += [f"{row['stage']} does not fit; would: {line}" for row in rows for line in row.get("nearest", [])]
    text += [f"{row['stage']}: {note}" for row in rows for note in row["notes"]]
    costs = [row["training"]["chip_hours"] for row in rows]
    if len({row["stage"] for row in rows}) == len(rows) > 1 and None not in costs:
        days = sum(row["training"]["days"] for row in rows)
        text.append(f"all stages at their bounds: {sum(costs):,.1f} chip-hours, {days:.2g} days sequentially")
    return "\n".join(text)
