"""The nearest thing that fits, where a stage does not: estimated, not compiled.

What a device holds of state and batch follows from shapes and rules, exactly. Temporaries are taken to grow with the
batch of a device, as activations do; those of the step that was compiled (or refused) are the yardstick. With
recomputation (`model.remat`) they are taken to shrink as what the forward pass keeps for the backward one does.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator

from jax.sharding import AbstractMesh, AxisType

from codi_jax.config import ConfigError
from codi_jax.parallel.mesh import AXES
from codi_jax.parallel.sharding import num_batch_shards
from codi_jax.parallel.tables import size
from codi_jax.plan.row import Row
from codi_jax.plan.shapes import bytes_per_device, kept_for_backward, step_of
from codi_jax.plan.target import Target
from codi_jax.train.recipe import Run


def held(run: Run, name: str, mesh: dict[str, int], batch_size: int) -> float:
    """Bytes of arguments on one device of a mesh."""
    fixed, row = _held(run, name, tuple(mesh[axis] for axis in AXES))
    return fixed + row * batch_size / num_batch_shards(mesh)


@functools.lru_cache(maxsize=256)
def _held(run: Run, name: str, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Bytes on one device: of all but the batch, and of one row of that."""
    grid = AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))
    _, (*fixed, batch, _) = step_of(run, name, grid, num_batch_shards(grid.shape))
    return bytes_per_device(fixed), bytes_per_device(batch)


def with_remat(run: Run, remat: bool) -> Run:
    """The run, with recomputation or without."""
    return Run(dataclasses.replace(run.config, model={**run.config.model, "remat": remat}), run.workdir)


@functools.lru_cache(maxsize=256)
def remat_keeps(run: Run, name: str) -> float:
    """The part of a stage's activations that is kept with recomputation."""
    with_it, without = (kept_for_backward(with_remat(run, remat), name) for remat in (True, False))
    return with_it / without


def estimated_peak(
    run: Run, row: Row, target: Target, mesh: dict[str, int], batch_size: int, remat: bool | None = None
) -> float | None:
    """Bytes of a chip at another mesh, batch and recomputation than a row's; None if even that row's are not known."""
    if row["hbm"]["temporaries"] is None:
        return None
    share = (batch_size / num_batch_shards(mesh)) / (row["batch_size"] / num_batch_shards(row["mesh"]))
    if remat not in (None, row["remat"]):
        share *= remat_keeps(run, row["stage"]) ** (1 if remat else -1)
    arguments = held(run, row["stage"], mesh, batch_size) * target.per_chip
    return arguments + share * (row["hbm"]["peak"] - row["hbm"]["arguments"])


def _halves(row: Row) -> Iterator[int]:
    """Smaller batches that the mesh can share evenly."""
    batch = row["batch_size"]
    while batch % 2 == 0 and (batch := batch // 2) % num_batch_shards(row["mesh"]) == 0:
        yield batch


def _finer(mesh: dict[str, int]) -> Iterator[dict[str, int]]:
    """Meshes that split state more, by what 'data' repeats."""
    for factor in range(2, mesh["data"] + 1):
        if mesh["data"] % factor == 0:
            yield {**mesh, "data": mesh["data"] // factor, "fsdp": mesh["fsdp"] * factor}


def nearest(run: Run, row: Row, target: Target) -> list[str]:
    """Changes that would make a stage fit, each by itself, or else together; a line each."""
    limit = row["hbm"]["limit"]
    if limit is None or row["hbm"]["temporaries"] is None:
        return []

    def peak(mesh: dict[str, int], batch: int, remat: bool = row["remat"]) -> float:
        try:
            return estimated_peak(run, row, target, mesh, batch, remat)
        except ConfigError:  # a rule that such a mesh does not fit
            return math.inf

    def said(mesh: dict[str, int], batch: int, remat: bool = row["remat"]) -> str:
        changes = [f"batch_size={batch}"] if batch != row["batch_size"] else []
        changes += [f"mesh.data={mesh['data']} mesh.fsdp={mesh['fsdp']}"] if mesh != row["mesh"] else []
        changes += ["model.remat=True"] if remat != row["remat"] else []
        return f"{' and '.join(changes)} (estimated: {size(peak(mesh, batch, remat))} of {size(limit)} a chip)"

    mesh, own, batches = row["mesh"], row["batch_size"], [*_halves(row)]
    policies = [row["remat"]] if row["remat"] else [False, True]
    alone = [(mesh, batch) for batch in batches if peak(mesh, batch) <= limit][:1]
    alone += [(finer, own) for finer in _finer(mesh) if peak(finer, own) <= limit][:1]
    alone += [(mesh, own, remat) for remat in policies[1:] if peak(mesh, own, remat) <= limit]
    together = (
        (finer, batch, remat)
        for remat in policies
        for batch in (own, *batches)
        for finer in (mesh, *_finer(mesh))
        if peak(finer, batch, remat) <= limit
    )
    found = alone or [change for change in [next(together, None)] if change]
    if not found:
        return ["nothing on this topology by batch, fsdp or model.remat (estimated); a larger one"]
    return [said(*change) for change in found]
