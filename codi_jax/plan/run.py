"""The plan of a recipe: a row a stage, what the whole training costs, and a table of it."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.parallel import MeshConfig
from codi_jax.parallel.tables import size, table
from codi_jax.plan import cache
from codi_jax.plan.fit import nearest
from codi_jax.plan.row import Row, compiled_row
from codi_jax.plan.sweep import chosen
from codi_jax.plan.target import Target
from codi_jax.progress import ProgressFn, duration
from codi_jax.train.recipe import Run


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
    """Rows of the named stages (all that train if none are).

    Args:
      run: the recipe; nothing of it has to be finished.
      stages: their names.
      target: where they are to run.
      mesh: of its devices.
      batch_size: global, in place of each stage's own.
      sweep: compile what promises most beside the config's mesh, batch and remat, three rows a stage.
      directory: where rows are kept, and found again; None for nowhere.
      progress: called when a stage is traced or compiled, and while that goes on.

    Raises:
      ConfigError: no such stage, or one that does not fit the devices.
    """
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"--batch: expected a positive number, got {batch_size}")
    training = [name for name in run.order if run.stage(name).objective != "encode"]
    for name in stages:
        run.stage(name)
    rows = []
    for name in stages or training:
        first = _row(run, name, target, mesh, batch_size or run.stage(name).batch_size, directory, progress)
        rows.append(first)
        if sweep:
            for other, *choice in chosen(run, first, target):
                rows.append(_row(other, name, target, *choice, directory, progress))
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
    row = cache.read(directory, key) if directory else None
    if row is not None:
        if progress is not None:
            progress(f"{name} was compiled before ({directory / key}.json)")
    else:
        with _beating(progress, f"still at {name}"):
            row = compiled_row(run, name, target, mesh, batch_size, progress)
        row["nearest"] = nearest(run, row, target) if row["fits"] is False else []
        if directory:
            cache.write(directory, key, row)
    return row | {"training": training(run, name, row)}


@contextlib.contextmanager
def _beating(progress: ProgressFn | None, what: str, every: float = 30.0) -> Iterator[None]:
    """Calls `progress` every so often: a compilation may take many minutes and says nothing itself."""
    if progress is None:
        yield
        return
    done, begun = threading.Event(), time.monotonic()

    def beat() -> None:
        while not done.wait(every):
            progress(f"{what}, {duration(time.monotonic() - begun)} so far")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def training(run: Run, name: str, row: Row) -> dict[str, Any]:
    """What all of a stage takes at its bound: the samples that its config asks for, whatever the batch."""
    samples, rate = run.stage(name).steps * run.stage(name).batch_size, row["samples_per_chip_hour"]
    hours = samples / rate if rate else None
    return {"samples": samples, "chip_hours": hours, "days": hours / row["chips"] / 24 if hours else None}


def _mesh(mesh: dict[str, int]) -> str:
    return " × ".join(f"{axis} {length}" for axis, length in mesh.items() if length > 1) or "one device"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def shown(rows: list[Row]) -> str:
    """Tables for people: memory and bounds, collectives, and what would fit where something does not."""
    head = ("stage", "mesh", "batch a chip", "arguments", "temporaries", "peak", "limit", "fits")
    head += ("TFLOP a step", "bound", "by", "MFU ≤", "samples a chip-hour", "chip-hours", "days", "compiled in")
    lines, sent = [head], [("stage", "collective", "count", "bytes of a device")]
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
                    _mesh(row["mesh"]) + (", remat" if row["remat"] else ""),
                    f"{row['batch_per_chip']:g}",
                    *held,
                    fits,
                ),
                _number(row["flops_per_step"] / 1e12, "{:.3g}"),
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
    text = [f"{rows[0]['topology']}, {rows[0]['chips']} chips", table(lines, right=(2, 3, 4, 5, 6, *range(8, 16)))]
    if len(sent) > 1:
        text += ["", table(sent, right=(2, 3))]
    text += [f"{row['stage']} does not fit; would: {line}" for row in rows for line in row.get("nearest", [])]
    text += [f"{row['stage']}: {note}" for row in rows for note in row["notes"]]
    costs = [row["training"]["chip_hours"] for row in rows]
    if len({row["stage"] for row in rows}) == len(rows) > 1 and None not in costs:
        days = sum(row["training"]["days"] for row in rows)
        text.append(f"all of it, at the bounds: {sum(costs):,.1f} chip-hours, {days:.2g} days one after the other")
    return "\n".join(text)
