"""Bytes that a compiled program sends between devices, loops included.

    kind                 bytes P per device          bytes received by a device in a group of n
    all-gather           of the result               P (n − 1) / n
    all-reduce           of the result               2 P (n − 1) / n
    reduce-scatter       of the operand              P (n − 1) / n
    all-to-all           of the result               P (n − 1) / n
    collective-permute   of the result               P

The last column is what the best algorithm on a ring or torus needs, hence a lower bound. An asynchronous collective is
counted at its start. The TPU compiler puts some collectives into fusions: a chain of pieces of one collective, counted
at the first (`AsyncCollectiveStart`), or an all-reduce whose result each device slices, counted as a reduce-scatter.
"""

import dataclasses
import math
import re

from codi_jax.parallel.hlo import Array, Instruction, Program, Visit

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_ALIASES = {"ragged-all-to-all": "all-to-all", "collective-broadcast": "collective-permute"}


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Collectives of one kind: their number per call, the sum of P, and the bytes that a device receives (`wire`)."""

    count: int = 0
    bytes: int = 0
    wire: float = 0.0


def collectives(program: Program) -> dict[str, Traffic]:
    """The collectives of a program by kind. Groups of one device send nothing and are not counted."""
    out: dict[str, Traffic] = {}
    for visit in program.visits():
        kind = _kind(visit)
        if kind is None:
            continue
        size = _group(visit.instruction, program.devices)
        if size == 1:
            continue
        payload = sum(array.bytes for array in _results(visit.instruction))
        if visit.instruction.opcode.startswith("reduce-scatter"):
            payload *= size
        factor = {"all-reduce": 2 * (size - 1) / size, "collective-permute": 1.0}.get(kind, (size - 1) / size)
        before, times = out.get(kind, Traffic()), visit.times
        out[kind] = Traffic(
            before.count + times, before.bytes + times * payload, before.wire + times * payload * factor
        )
    return {kind: out[kind] for kind in KINDS if kind in out}


def _kind(visit: Visit) -> str | None:
    """The kind that an instruction is counted as; None if it is not a collective, or a later piece of one."""
    opcode = visit.instruction.opcode.removesuffix("-start")
    kind = _ALIASES.get(opcode, opcode)
    if kind not in KINDS:
        return None
    if "chain_id=" in visit.instruction.text and not any(
        "AsyncCollectiveStart" in other.text for other in visit.computation.values()
    ):
        return None
    if visit.fused and kind == "all-reduce" and _sliced(visit):
        return "reduce-scatter"
    return kind


def _sliced(visit: Visit) -> bool:
    """Whether each device keeps only a slice of an all-reduce inside a fusion."""
    users = [i for i in visit.computation.values() if visit.instruction.name in i.operands]
    return bool(users) and all(user.opcode == "dynamic-slice" for user in users)


def _results(instruction: Instruction) -> tuple[Array, ...]:
    """The results of a collective; the type of some `-start` instructions is (operands, results, semaphores)."""
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):
        count = len(instruction.operands)
        return instruction.result[count : 2 * count]
    return instruction.result


def _group(instruction: Instruction, devices: int) -> int:
    """The number of devices in one replica group.

    The compiler writes groups as lists, as an iota ([groups, size]<=…) or as mesh axes.
    """
    text = instruction.text
    if instruction.opcode.startswith("collective-permute"):
        pairs = re.search(r"source_target_pairs=\{([^=]*)\}", text)
        return 2 if pairs and any(a != b for a, b in re.findall(r"\{(\d+),(\d+)\}", pairs[1])) else 1
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", text):
        return int(iota[1])
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\](.*?)\{([^}]*)\}", text):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[3])  # a part of an axis is written 'axis':(before)size
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return len(listed[1].split(","))
    return devices
