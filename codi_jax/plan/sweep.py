"""Which mesh, batch and recomputation suit a stage: many estimated, the best three compiled.

The config's own are compiled first and are the yardstick. From it, of another mesh (data, fsdp, tensor), batch b of a
device, and with or without `model.remat`,

    compute        operations a sample (those of the other policy are counted) × batch, at the chips' peak
    memory         what was moved, less the state read and written, × b / b₀ and × operations a sample / those before,
                   and the state of the other mesh twice
    interconnect   gathers of the split parameters, twice; gradients, scattered over fsdp and summed over data

and a peak as in `fit`. The interconnect of `tensor` is not estimated, so such meshes are there only where a rule names
the axis, and compilation judges them. What is ranked is samples a chip and hour; of those within 2 % of the best the
smallest batch comes first, since that is where the bound stops improving.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from codi_jax.config import ConfigError
from codi_jax.parallel import MeshConfig, ShardingConfig, paths
from codi_jax.parallel.mesh import AXES, MAX_FSDP
from codi_jax.parallel.sharding import num_batch_shards
from codi_jax.plan.fit import estimated_peak, held, remat_keeps, with_remat
from codi_jax.plan.row import Row, bound, counted
from codi_jax.plan.shapes import step_of
from codi_jax.plan.target import Target
from codi_jax.train.recipe import Run

COMPILED = 3
_CLOSE = 0.98


def _powers(until: int) -> Iterator[int]:
    power = 1
    while power <= until:
        yield power
        power *= 2


def _names_tensor(config: ShardingConfig) -> bool:
    return any("tensor" in jax.tree.leaves(spec) for _, _, spec in paths.compile_rules(config.rules, "sharding rules"))


def meshes(devices: int, config: ShardingConfig) -> Iterator[dict[str, int]]:
    """All of data × fsdp × tensor that use every device."""
    for tensor in _powers(devices if _names_tensor(config) else 1):
        for fsdp in _powers(min(devices // tensor, MAX_FSDP)):
            if devices % (fsdp * tensor) == 0:
                yield dict(zip(AXES, (devices // (fsdp * tensor), fsdp, tensor, 1), strict=True))


def _wire(mesh: dict[str, int], weights: dict[str, float]) -> float:
    """Bytes that a device receives in a step."""
    fsdp, data = mesh["fsdp"], mesh["data"]
    gathered = 2 * weights["parameters"] * (fsdp - 1) / fsdp
    return gathered + weights["trained"] * ((fsdp - 1) / fsdp + 2 * (data - 1) / data / fsdp)


def _weights(run: Run, name: str) -> dict[str, float]:
    """Bytes of the parameters in the compute type, and of the trained ones in float32."""
    grid = AbstractMesh((1,) * len(AXES), AXES)
    _, (state, frozen, *_) = step_of(run, name, grid, 1)
    trained, rest = (sum(math.prod(x.shape) for x in jax.tree.leaves(tree)) for tree in (state.params, frozen))
    return {"parameters": (trained + rest) * jnp.dtype(run.codi.config.dtype).itemsize, "trained": 4.0 * trained}


def estimates(run: Run, row: Row, target: Target) -> list[dict[str, Any]]:
    """What should fit, the best first: {"mesh", "batch_size", "remat", "peak", "samples_per_chip_hour", …}."""
    name, weights = row["stage"], _weights(run, row["stage"])
    state = held(run, name, row["mesh"], row["batch_size"])
    own = row["batch_size"] / num_batch_shards(row["mesh"])
    moved = max((row.get("traffic") or {"memory": 0.0})["memory"] - 2 * state, 0.0)
    own_mesh = MeshConfig(**row["mesh"])
    flops = {row["remat"]: row["flops_per_step"]}
    if remat_keeps(run, name) < 1:  # else it changes nothing
        flops[not row["remat"]] = counted(with_remat(run, not row["remat"]), name, target, own_mesh, row["batch_size"])
    found = []
    for mesh, remat in itertools.product(meshes(len(target.devices), run.config.sharding), flops):
        parts, more = num_batch_shards(mesh), flops[remat] / row["flops_per_step"]
        for each in _powers(max(int(4 * own), 1)):
            batch = each * parts
            try:
                peak = estimated_peak(run, row, target, mesh, batch, remat)
                here = held(run, name, mesh, batch)
            except ConfigError:  # a rule that this mesh does not fit
                break
            if peak is None or peak > row["hbm"]["limit"]:
                break
            traffic = {"memory": 2 * here + moved * more * each / own, "interconnect": _wire(mesh, weights)}
            limits = bound(row["flops_per_sample"] * more * batch, batch, traffic, target)
            found.append({"mesh": mesh, "batch_size": batch, "remat": remat, "peak": peak, **limits})
    return ranked(found)


def ranked(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fastest first; what is close to it counts as equal, and of equals the smaller batch comes first."""
    fastest = max((e["samples_per_chip_hour"] for e in found), default=0.0)
    close = [e for e in found if e["samples_per_chip_hour"] >= _CLOSE * fastest]
    rest = [e for e in found if e["samples_per_chip_hour"] < _CLOSE * fastest]
    return sorted(close, key=lambda e: (e["batch_size"], e["peak"])) + sorted(
        rest, key=lambda e: -e["samples_per_chip_hour"]
    )


def chosen(run: Run, row: Row, target: Target) -> list[tuple[Run, MeshConfig, int]]:
    """What to compile beside the yardstick, which is one of the three.

    Raises:
      ConfigError: nobody knows what the chip can do.
    """
    if target.chip is None:
        raise ConfigError(f"--sweep needs a chip whose peaks are known, as in --topology=v5e:4x4, not {target.name}")
    asked = ("mesh", "batch_size", "remat")
    others = [e for e in estimates(run, row, target) if any(e[field] != row[field] for field in asked)]
    return [(with_remat(run, e["remat"]), MeshConfig(**e["mesh"]), e["batch_size"]) for e in others[: COMPILED - 1]]
