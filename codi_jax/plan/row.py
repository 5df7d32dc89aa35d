"""One row of a plan: the step of a stage compiled for a mesh, and the roofline of the compiled program.

    seconds.compute        FLOPs of the step on matrix units (`Chip.on_units`) / (chips · peak FLOP/s of a chip)
    seconds.memory         bytes that a chip reads from and writes to HBM / its bandwidth
    seconds.interconnect   bytes that a chip receives from other chips / its bandwidth
    bound_seconds          the largest of these, a lower bound of a step
    mfu_bound              FLOPs of the model / (chips · peak · bound_seconds): without what rematerialization and
                           attention without scores compute again, and without what narrow products leave unused

Bytes are per chip; those of `traffic`, `collectives` and `largest` are per device. `peak` is the memory of arguments,
results that do not alias arguments, and temporaries. The TPU compiler refuses a program that does not fit and reports
how much memory it needs. `largest` names what takes most of the resource that determines the bound (of memory traffic
if the chip is unknown) or, if the compiler refuses the step, the largest results of its products.
"""

import dataclasses
import re
import time
from typing import Any

import jax

from codi_jax.parallel import MeshConfig, make_mesh
from codi_jax.parallel.collectives import collectives
from codi_jax.parallel.flops import Flops, count, read_inputs
from codi_jax.parallel.hlo import Program
from codi_jax.parallel.mesh import AXES
from codi_jax.parallel.tables import size
from codi_jax.parallel.traffic import HOST, memory_traffic
from codi_jax.plan import largest
from codi_jax.plan.shapes import bytes_per_device, step_of
from codi_jax.plan.target import Target
from codi_jax.progress import ProgressFn
from codi_jax.train.recipe import Run

Row = dict[str, Any]

_NEEDS = re.compile(r"(?:total memory required.*?\(|Used )([\d.]+)([KMGTP]?)\b")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}


def compiled_row(
    run: Run, name: str, target: Target, mesh: MeshConfig, batch_size: int, progress: ProgressFn | None
) -> Row:
    """Compiles the step of a stage with a global batch size; see the module for the entries.

    Raises:
      ConfigError: the mesh or the batch does not fit the devices, or the stage has no step (`encode`).
    """
    grid = make_mesh(mesh, target.devices)
    program, arguments = step_of(run, name, grid, batch_size)
    held = bytes_per_device(arguments)
    if progress is not None:
        progress(f"tracing {name} for {target.name}")
    # Nothing may be executed in this block: the devices of a topology description cannot compute.
    with jax.set_mesh(grid):
        traced = program.step.trace(*arguments)
        flops, read = count(traced.jaxpr), read_inputs(traced.jaxpr)
        lowered = traced.lower(lowering_platforms=(target.platform,))
        if progress is not None:
            progress(f"compiling {name} for {target.name}")
        start = time.perf_counter()
        try:
            compiled, refusal = lowered.compile(), ""
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            compiled, refusal = None, str(error)
    seconds = time.perf_counter() - start
    row = {
        "stage": name,
        "topology": target.name,
        "chips": target.chips,
        "mesh": dict(zip(AXES, grid.devices.shape, strict=True)),
        "remat": run.codi.config.remat,
        "batch_size": batch_size,
        "batch_per_chip": batch_size / target.chips,
        "flops_per_step": flops.total,
        "unit_flops_per_step": target.chip.on_units(flops) if target.chip else flops.total,
        "model_flops_per_step": _model_flops(run, name, flops, target, mesh, batch_size),
        "compile_seconds": round(seconds, 1),
        "notes": [f"counted as one iteration: {loop}" for loop in flops.unknown_loops],
    }
    if compiled is None:
        return row | _refused(refusal, held, flops, target)
    # jit drops arguments that the program does not use, such as parameters of frozen networks that the loss does not
    # read; they are in memory all the same.
    unused = bytes_per_device([x for x, used in zip(jax.tree.leaves(arguments), read, strict=True) if not used])
    return row | _read(compiled, flops, row, unused, target)


def _model_flops(run: Run, name: str, flops: Flops, target: Target, mesh: MeshConfig, batch_size: int) -> float:
    """FLOPs of a step that computes nothing twice."""
    again = ("rematted_computation", "pallas_call", "dot_product_attention")
    stage = run.stage(name)
    if stage.accumulate == 1 and not any(part in product.name for product in flops.products for part in again):
        return flops.total
    model = dataclasses.replace(run.config.model, remat="none", attention="xla")
    group, leaf = name.split(".", 1)
    stages = run.config.stages | {group: run.config.stages[group] | {leaf: dataclasses.replace(stage, accumulate=1)}}
    plain = Run(dataclasses.replace(run.config, model=model, stages=stages), run.workdir)
    return counted(plain, name, target, mesh, batch_size)


def counted(run: Run, name: str, target: Target, mesh: MeshConfig, batch_size: int) -> float:
    """FLOPs of a step, which is traced but not compiled."""
    grid = make_mesh(mesh, target.devices)
    program, arguments = step_of(run, name, grid, batch_size)
    with jax.set_mesh(grid):
        return count(program.step.trace(*arguments).jaxpr).total


def _limit(target: Target) -> float | None:
    """Bytes of memory that a chip has for a program; None if unknown."""
    try:
        stats = target.devices[0].memory_stats() or {}
    except jax.errors.JaxRuntimeError:  # devices without memory statistics, or of a topology description
        stats = {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] * target.per_chip
    return target.chip.memory if target.chip else None


def _refused(message: str, held: int, flops: Flops, target: Target) -> Row:
    """The entries for a step that the compiler refuses: the memory of its arguments, and how much it would need."""
    needs = [float(number) * _UNITS[unit] for number, unit in _NEEDS.findall(message)]
    peak = max(needs) * target.per_chip if needs else None
    arguments = held * target.per_chip
    memory = {
        "arguments": arguments,
        "temporaries": peak - arguments if peak else None,
        "peak": peak,
        "limit": _limit(target),
    }
    absent = dict.fromkeys(("seconds", "bound_seconds", "mfu_bound", "samples_per_chip_hour"))
    found = {"of": "results", "groups": largest.results(flops, len(target.devices))}
    return {"hbm": memory, "collectives": {}, "largest": found, **absent, "fits": False}


def _read(compiled: Any, flops: Flops, traced: Row, unused: int, target: Target) -> Row:
    """The entries read from a compiled program; `unused` are bytes of arguments that it does not take.

    Notes are added to those of `traced`, the entries that are known without compiling.
    """
    notes = traced["notes"]
    stats, program = compiled.memory_analysis(), Program(compiled.as_text())
    arguments = stats.argument_size_in_bytes + unused
    peak = arguments + stats.output_size_in_bytes - stats.alias_size_in_bytes
    peak += stats.temp_size_in_bytes + stats.generated_code_size_in_bytes
    memory = {
        "arguments": arguments * target.per_chip,
        "temporaries": stats.temp_size_in_bytes * target.per_chip,
        "peak": peak * target.per_chip,
        "limit": _limit(target),
    }
    notes += [f"counted as one iteration: {loop} of the compiled program" for loop in program.unknown_loops()]
    if host := memory_traffic(program, HOST):
        notes.append(f"moves {size(host)} a step between device and host memory, which the bound leaves out")
    if calls := program.host_calls():
        notes.append(f"computes on the host, which is not counted: {', '.join(calls)}")
    sent = collectives(program)
    row = {
        "hbm": memory,
        "collectives": {kind: {"count": t.count, "bytes": t.bytes} for kind, t in sent.items()},
        "traffic": {"memory": memory_traffic(program), "interconnect": sum(t.wire for t in sent.values())},
        "fits": memory["peak"] <= memory["limit"] if memory["limit"] else None,
    }
    model, unit = traced["model_flops_per_step"], traced["unit_flops_per_step"]
    limits = bound(model, unit, traced["batch_size"], row["traffic"], target)
    seconds = limits["seconds"] or {"memory": 0.0}
    resource = max(seconds, key=lambda name: seconds[name])
    groups = {
        "compute": lambda: largest.compute(flops, target.chip),
        "memory": lambda: largest.memory(program),
        "interconnect": lambda: largest.interconnect(program),
    }
    return row | limits | {"largest": {"of": resource, "groups": groups[resource]()}}


def bound(model: float, unit: float, batch_size: int, traffic: dict[str, float], target: Target) -> Row:
    """The roofline bound from FLOPs and the bytes of one device; entries are None if the chip is unknown.

    Args:
      model, unit: FLOPs of a step of the model, and of the program on matrix units.
      batch_size: global.
      traffic: bytes of one device, to `memory` and over the `interconnect`.
      target: the hardware.
    """
    if target.chip is None:
        return dict.fromkeys(("seconds", "bound_seconds", "mfu_bound", "samples_per_chip_hour"))
    chip = target.chip
    seconds = {
        "compute": unit / (target.chips * chip.flops),
        "memory": traffic["memory"] * chip.devices / chip.bandwidth,
        "interconnect": traffic["interconnect"] * chip.devices / chip.interconnect,
    }
    longest = max(seconds.values())
    return {
        "seconds": seconds,
        "bound_seconds": longest,
        "mfu_bound": model / (target.chips * chip.flops) / longest,
        "samples_per_chip_hour": 3600 * batch_size / target.chips / longest,
    }
