"""Suggestions for a stage that does not fit in memory, by estimates and without compiling.

The bytes of state and batch on a device are computed exactly from shapes and sharding rules. Temporaries are scaled
from those of the compiled (or refused) step: in proportion to the batch per device, and with rematerialization
(`model.remat`) in proportion to the activations that the forward pass keeps for the backward pass.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator

from jax.sharding import AbstractMesh, AxisType

from codi_jax.config import ConfigError
from codi_jax.nn.remat import Remat
from codi_jax.parallel.mesh import AXES
from codi_jax.parallel.sharding import num_batch_shards
from codi_jax.parallel.tables import size
from codi_jax.plan.row import Row
from codi_jax.plan.shapes import bytes_per_device, kept_for_backward, step_of
from codi_jax.plan.target import Target
from codi_jax.train.recipe import Run


def held(run: Run, name: str, mesh: dict[str, int], batch_size: int) -> float:
    """Bytes of the step's arguments on one device of a mesh."""
    fixed, row = _held(run, name, tuple(mesh[axis] for axis in AXES))
    return fixed + row * batch_size / num_batch_shards(mesh)


@functools.lru_cache(maxsize=256)
def _held(run: Run, name: str, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Bytes on one device: of all arguments without the batch, and of one row of the batch."""
    grid = AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))
    _, (*fixed, batch, _) = step_of(run, name, grid, num_batch_shards(grid.shape))
    return bytes_per_device(fixed), bytes_per_device(batch)


def with_remat(run: Run, remat: Remat) -> Run:
    """The run with `model.remat` set."""
    return Run(dataclasses.replace(run.config, model=dataclasses.replace(run.config.model, remat=remat)), run.workdir)


@functools.lru_cache(maxsize=256)
def remat_keeps(run: Run, name: str) -> float:
    """The fraction of a stage's activations that is kept with `model.remat=blocks`."""
    with_it, without = (kept_for_backward(with_remat(run, remat), name) for remat in ("blocks", "none"))
    return with_it / without


def estimated_peak(
    run: Run, row: Row, target: Target, mesh: dict[str, int], batch_size: int, remat: Remat | None = None
) -> float | None:
    """Estimated peak bytes of a chip with another mesh, batch and remat than a row's; None if the row's are unknown."""
    if row["hbm"]["temporaries"] is None:
        return None
    share = (batch_size / num_batch_shards(mesh)) / (row["batch_size"] / num_batch_shards(row["mesh"]))
    if remat not in (None, row["remat"]):
        share *= remat_keeps(run, row["stage"]) ** (-1 if remat == "none" else 1)
    arguments = held(run, row["stage"], mesh, batch_size) * target.per_chip
    return arguments + share * (row["hbm"]["peak"] - row["hbm"]["arguments"])


def _halves(row: Row) -> Iterator[int]:
    """Batch sizes divided by powers of two, as long as the mesh can share them evenly."""
    batch = row["batch_size"]
    while batch % 2 == 0 and (batch := batch // 2) % num_batch_shards(row["mesh"]) == 0:
        yield batch


def _finer(mesh: dict[str, int]) -> Iterator[dict[str, int]]:
    """Meshes that shard the state further, by moving devices from 'data' to 'fsdp'."""
    for factor in range(2, mesh["data"] + 1):
        if mesh["data"] % factor == 0:
            yield {**mesh, "data": mesh["data"] // factor, "fsdp": mesh["fsdp"] * factor}


Change = tuple[dict[str, int], int, Remat]  # mesh, batch size, remat


def _peak(run: Run, row: Row, target: Target, change: Change) -> float:
    """The estimated peak bytes of a chip with a change; infinite if a sharding rule does not fit the mesh."""
    try:
        estimated = estimated_peak(run, row, target, *change)
    except ConfigError:
        return math.inf
    assert estimated is not None, "the temporaries of the row are known"
    return estimated


def changes(run: Run, row: Row, target: Target) -> list[Change]:
    """Changes with which a stage should fit: single changes if one suffices, else the nearest combination."""
    limit = row["hbm"]["limit"]
    if limit is None or row["hbm"]["temporaries"] is None:
        return []

    def fitting(
        meshes: Iterable[dict[str, int]], batches: Iterable[int], policies: Iterable[Remat]
    ) -> Iterator[Change]:
        for remat, batch, mesh in itertools.product(policies, batches, meshes):
            if _peak(run, row, target, (mesh, batch, remat)) <= limit:
                yield mesh, batch, remat

    mesh, batch_size, current = [row["mesh"]], [row["batch_size"]], [row["remat"]]
    finer, smaller = [*_finer(row["mesh"])], [*_halves(row)]
    remat: list[Remat] = ["blocks"] if row["remat"] == "none" else []
    single = [
        *itertools.islice(fitting(mesh, smaller, current), 1),
        *itertools.islice(fitting(finer, batch_size, current), 1),
        *fitting(mesh, batch_size, remat),
    ]
    return single or [*itertools.islice(fitting(mesh + finer, batch_size + smaller, current + remat), 1)]


def nearest(run: Run, row: Row, target: Target) -> list[str]:
    """The `changes`, one line each."""
    limit = row["hbm"]["limit"]
    if limit is None or row["hbm"]["temporaries"] is None:
        return []

    def describe(change: Change) -> str:
        mesh, batch, remat = change
        parts = [f"batch_size={batch}"] if batch != row["batch_size"] else []
        parts += [f"mesh.data={mesh['data']} mesh.fsdp={mesh['fsdp']}"] if mesh != row["mesh"] else []
        parts += [f"model.remat={remat}"] if remat != row["remat"] else []
        peak = size(_peak(run, row, target, change))
        return f"{' and '.join(parts)} (estimated: {peak} of {size(limit)} a chip)"

    found = [*map(describe, changes(run, row, target))]
    return found or ["no batch, fsdp or model.remat fits on this topology (estimated); use a larger one"]
