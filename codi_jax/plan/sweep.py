"""Searching mesh, batch and rematerialization for a stage: many are estimated, the best three compiled.

The config's own choice is compiled first, as the reference. For another mesh (data, fsdp, tensor), batch b per device
and `model.remat` the bound is estimated from it:

    compute        FLOPs per sample (counted with and without remat) × batch, at the chips' peak
    memory         traffic of the reference without its state, × b / b₀ × FLOPs per sample / those of the reference,
                   plus the state on the other mesh, read and written
    interconnect   two all-gathers of the sharded parameters; gradients, reduce-scattered over fsdp and all-reduced over
                   data

and the peak memory as in `fit`. Traffic over `tensor` is not estimated, so meshes with that axis are tried only if a
sharding rule names it. Candidates are ranked by samples per chip-hour; of those within 2 % of the best the smallest
batch is first, since a larger one hardly improves the bound. If the peaks of the chip are unknown, as those of a CPU
are, those of `NOMINAL` replace them.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from codi_jax.config import ConfigError
from codi_jax.nn.remat import Remat
from codi_jax.parallel import MeshConfig, ShardingConfig, paths
from codi_jax.parallel.chips import Chip
from codi_jax.parallel.mesh import AXES, MAX_FSDP
from codi_jax.parallel.sharding import num_batch_shards
from codi_jax.plan.fit import estimated_peak, held, remat_keeps, with_remat
from codi_jax.plan.row import Row, bound, counted
from codi_jax.plan.shapes import step_of
from codi_jax.plan.target import Target
from codi_jax.train.recipe import Run

COMPILED = 3
NOMINAL = Chip(flops=1e12, memory=math.inf, bandwidth=1e10, interconnect=1e9)
_CLOSE = 0.98


def _powers(until: int) -> Iterator[int]:
    power = 1
    while power <= until:
        yield power
        power *= 2


def _names_tensor(config: ShardingConfig) -> bool:
    return any("tensor" in jax.tree.leaves(spec) for _, _, spec in paths.compile_rules(config.rules, "sharding rules"))


def meshes(devices: int, config: ShardingConfig) -> Iterator[dict[str, int]]:
    """All meshes data × fsdp × tensor that use every device."""
    for tensor in _powers(devices if _names_tensor(config) else 1):
        for fsdp in _powers(min(devices // tensor, MAX_FSDP)):
            if devices % (fsdp * tensor) == 0:
                yield dict(zip(AXES, (devices // (fsdp * tensor), fsdp, tensor, 1), strict=True))


def _wire(mesh: dict[str, int], weights: dict[str, float]) -> float:
    """Estimated bytes that a device receives in a step."""
    fsdp, data = mesh["fsdp"], mesh["data"]
    gathered = 2 * weights["parameters"] * (fsdp - 1) / fsdp
    return gathered + weights["trained"] * ((fsdp - 1) / fsdp + 2 * (data - 1) / data / fsdp)


def _weights(run: Run, name: str) -> dict[str, float]:
    """Bytes of all parameters in the compute dtype, and of the trained ones in float32."""
    grid = AbstractMesh((1,) * len(AXES), AXES)
    _, (state, frozen, *_) = step_of(run, name, grid, 1)
    trained, rest = (sum(math.prod(x.shape) for x in jax.tree.leaves(tree)) for tree in (state.params, frozen))
    return {"parameters": (trained + rest) * jnp.dtype(run.codi.config.dtype).itemsize, "trained": 4.0 * trained}


def estimates(run: Run, row: Row, target: Target) -> list[dict[str, Any]]:
    """Candidates that should fit, best first: {"mesh", "batch_size", "remat", "peak", "samples_per_chip_hour", …}."""
    name, weights = row["stage"], _weights(run, row["stage"])
    target = target if target.chip else dataclasses.replace(target, chip=NOMINAL)
    state = held(run, name, row["mesh"], row["batch_size"])
    row_batch = row["batch_size"] / num_batch_shards(row["mesh"])  # per device
    moved = max((row.get("traffic") or {"memory": 0.0})["memory"] - 2 * state, 0.0)
    row_mesh = MeshConfig(**row["mesh"])
    flops: dict[Remat, float] = {row["remat"]: row["flops_per_step"]}
    if remat_keeps(run, name) < 1:  # otherwise remat has no effect on the stage
        other: Remat = "blocks" if row["remat"] == "none" else "none"
        flops[other] = counted(with_remat(run, other), name, target, row_mesh, row["batch_size"])
    out = []
    for mesh, remat in itertools.product(meshes(len(target.devices), run.config.sharding), flops):
        shards, more = num_batch_shards(mesh), flops[remat] / row["flops_per_step"]
        for each in _powers(max(int(4 * row_batch), 1)):
            batch = each * shards
            try:
                peak = estimated_peak(run, row, target, mesh, batch, remat)
                arguments = held(run, name, mesh, batch)
            except ConfigError:  # a sharding rule does not fit this mesh
                break
            if peak is None or (row["hbm"]["limit"] is not None and peak > row["hbm"]["limit"]):
                break
            traffic = {"memory": 2 * arguments + moved * more * each / row_batch, "interconnect": _wire(mesh, weights)}
            model, unit = (row[f"{kind}_flops_per_step"] * batch / row["batch_size"] for kind in ("model", "unit"))
            limits = bound(model, unit * more, batch, traffic, target)
            out.append({"mesh": mesh, "batch_size": batch, "remat": remat, "peak": peak, **limits})
    return ranked(out)


def ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sorts candidates, fastest first; those close to the fastest are sorted by batch size."""
    fastest = max((e["samples_per_chip_hour"] for e in rows), default=0.0)
    close = [e for e in rows if e["samples_per_chip_hour"] >= _CLOSE * fastest]
    rest = [e for e in rows if e["samples_per_chip_hour"] < _CLOSE * fastest]
    return sorted(close, key=lambda e: (e["batch_size"], e["peak"])) + sorted(
        rest, key=lambda e: -e["samples_per_chip_hour"]
    )


def candidates(run: Run, row: Row, target: Target) -> list[tuple[Run, MeshConfig, int]]:
    """The (run, mesh, batch size) to compile in addition to the reference row."""
    fields = ("mesh", "batch_size", "remat")
    others = [e for e in estimates(run, row, target) if any(e[field] != row[field] for field in fields)]
    return [(with_remat(run, e["remat"]), MeshConfig(**e["mesh"]), e["batch_size"]) for e in others[: COMPILED - 1]]
