"""One row of a plan: a stage's step compiled for a mesh, and what the compiled program says.

    seconds.compute        operations of the step / (chips · peak of one)
    seconds.memory         bytes that a chip moves to and from its memory / its bandwidth
    seconds.interconnect   bytes that a chip receives from others / its bandwidth
    bound_seconds          the largest: no step is shorter; mfu_bound is the compute's part of it

Bytes are of one chip, `peak` being all that it holds at once: arguments, results that do not take their place,
temporaries. Compilation for a TPU refuses what does not fit, and says how much it would have needed.
"""

import re
import time
from typing import Any

import jax

from codi_jax.parallel import MeshConfig, make_mesh
from codi_jax.parallel.chips import GIB
from codi_jax.parallel.collectives import collectives
from codi_jax.parallel.flops import count, read_inputs
from codi_jax.parallel.hlo import Program
from codi_jax.parallel.mesh import AXES
from codi_jax.parallel.traffic import memory_traffic
from codi_jax.plan.shapes import bytes_per_device, step_of
from codi_jax.plan.target import Target
from codi_jax.progress import ProgressFn
from codi_jax.train.recipe import Run

Row = dict[str, Any]

_NEEDS = re.compile(r"(?:total memory required.*?\(|Used )([\d.]+)([KMG]?)\b")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": GIB}


def compiled_row(
    run: Run, name: str, target: Target, mesh: MeshConfig, batch_size: int, progress: ProgressFn | None
) -> Row:
    """Compiles the step of a stage at a global batch; see the module.

    Raises:
      ConfigError: the mesh or the batch does not fit the devices, or the stage trains nothing.
    """
    grid = make_mesh(mesh, target.devices)
    program, arguments = step_of(run, name, grid, batch_size)
    held = bytes_per_device(arguments)
    if progress is not None:
        progress(f"tracing {name} for {target.name}")
    # Nothing may be computed in here: the devices of a described slice cannot.
    with jax.set_mesh(grid):
        traced = program.step.trace(*arguments)
        flops, read = count(traced.jaxpr), read_inputs(traced.jaxpr)
        lowered = traced.lower(lowering_platforms=(target.platform,))
        if progress is not None:
            progress(f"compiling {name} for {target.name}")
        begun = time.perf_counter()
        try:
            compiled, refusal = lowered.compile(), ""
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            compiled, refusal = None, str(error)
    seconds = time.perf_counter() - begun
    row = {
        "stage": name,
        "topology": target.name,
        "chips": target.chips,
        "mesh": dict(zip(AXES, grid.devices.shape, strict=True)),
        "remat": run.codi.config.remat,
        "batch_size": batch_size,
        "batch_per_chip": batch_size / target.chips,
        "flops_per_step": flops.total,
        "flops_per_sample": flops.total / batch_size,
        "compile_seconds": round(seconds, 1),
        "notes": [f"counted as one turn: {loop}" for loop in flops.unknown_loops],
    }
    if compiled is None:
        return row | _refused(refusal, held, target)
    # What the program does not take is there all the same: parameters of a frozen network that this loss passes by.
    idle = bytes_per_device([x for x, taken in zip(jax.tree.leaves(arguments), read, strict=True) if not taken])
    return row | _read(compiled, flops.total, batch_size, idle, target, row["notes"])


def counted(run: Run, name: str, target: Target, mesh: MeshConfig, batch_size: int) -> float:
    """Operations of a step, which is traced and not compiled."""
    grid = make_mesh(mesh, target.devices)
    program, arguments = step_of(run, name, grid, batch_size)
    with jax.set_mesh(grid):
        return count(program.step.trace(*arguments).jaxpr).total


def _limit(target: Target) -> float | None:
    """Bytes that a chip has for a program, if anybody says."""
    if target.chip:
        return target.chip.memory
    try:
        stats = target.devices[0].memory_stats() or {}
    except jax.errors.JaxRuntimeError:  # of devices that keep no account
        stats = {}
    return stats.get("bytes_limit")


def _refused(said: str, held: int, target: Target) -> Row:
    """What is known of a step that the compiler refuses: what it holds, and what it would need."""
    needs = [float(number) * _UNITS[unit] for number, unit in _NEEDS.findall(said)]
    peak = max(needs) * target.per_chip if needs else None
    arguments = held * target.per_chip
    memory = {
        "arguments": arguments,
        "temporaries": peak - arguments if peak else None,
        "peak": peak,
        "limit": _limit(target),
    }
    absent = dict.fromkeys(("seconds", "bound_seconds", "mfu_bound", "samples_per_chip_hour"))
    return {"hbm": memory, "collectives": {}, **absent, "fits": False}


def _read(compiled: Any, flops: float, batch_size: int, idle: int, target: Target, notes: list[str]) -> Row:
    stats, program = compiled.memory_analysis(), Program(compiled.as_text())
    arguments = stats.argument_size_in_bytes + idle
    peak = arguments + stats.output_size_in_bytes - stats.alias_size_in_bytes
    peak += stats.temp_size_in_bytes + stats.generated_code_size_in_bytes
    memory = {
        "arguments": arguments * target.per_chip,
        "temporaries": stats.temp_size_in_bytes * target.per_chip,
        "peak": peak * target.per_chip,
        "limit": _limit(target),
    }
    notes += [f"counted as one turn: {loop} of the compiled program" for loop in program.unknown_loops()]
    sent = collectives(program)
    row = {
        "hbm": memory,
        "collectives": {kind: {"count": t.count, "bytes": t.bytes} for kind, t in sent.items()},
        "traffic": {"memory": memory_traffic(program), "interconnect": sum(t.wire for t in sent.values())},
        "fits": memory["peak"] <= memory["limit"] if memory["limit"] else None,
    }
    return row | bound(flops, batch_size, row["traffic"], target)


def bound(flops: float, batch_size: int, traffic: dict[str, float], target: Target) -> Row:
    """What no step can beat, from its operations and the bytes of one device; None where the chip is not known."""
    if target.chip is None:
        return dict.fromkeys(("seconds", "bound_seconds", "mfu_bound", "samples_per_chip_hour"))
    chip = target.chip
    seconds = {
        "compute": flops / (target.chips * chip.flops),
        "memory": traffic["memory"] * chip.devices / chip.bandwidth,
        "interconnect": traffic["interconnect"] * chip.devices / chip.interconnect,
    }
    longest = max(seconds.values())
    return {
        "seconds": seconds,
        "bound_seconds": longest,
        "mfu_bound": seconds["compute"] / longest,
        "samples_per_chip_hour": 3600 * batch_size / target.chips / longest,
    }
