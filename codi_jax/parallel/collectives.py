"""Bytes that a compiled program sends between devices, loops included.

    kind                 bytes P per device          bytes received by a device in a group of n
    all-gather           of the result               P (n − 1) / n
    all-reduce           of the result               2 P (n − 1) / n
    reduce-scatter       of the operand              P (n − 1) / n
    all-to-all           of the result               P (n − 1) / n
    collective-permute   of the result               P

The last column is what the best algorithm on a ring or torus needs, hence a lower bound. Permutes to different devices
run at the same time, so they count as the bytes of the device that receives most. An asynchronous collective is counted
at its start. The TPU compiler puts some collectives into fusions: a chain of pieces of one collective, counted at the
first (`AsyncCollectiveStart`), or an all-reduce whose result each device slices, counted as a reduce-scatter.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator

from codi_jax.parallel.hlo import Instruction, Program, Visit

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_ALIASES = {"ragged-all-to-all": "all-to-all", "collective-broadcast": "collective-permute"}


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective of a program, with the bytes of all of its runs.

    Attributes:
      visit: its instruction.
      kind: one of `KINDS`.
      bytes: the sum of P.
      wire: bytes that a device receives.
      receivers: the devices that receive them; None for all.
    """

    visit: Visit
    kind: str
    bytes: int
    wire: float
    receivers: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Collectives of one kind: their number per call, the sum of P, and the bytes that a device receives (`wire`)."""

    count: int = 0
    bytes: int = 0
    wire: float = 0.0


def collectives(program: Program) -> dict[str, Traffic]:
    """The collectives of a program by kind. Groups of one device send nothing and are not counted."""
    by_kind: dict[str, list[Collective]] = {kind: [] for kind in KINDS}
    for collective in each(program):
        by_kind[collective.kind].append(collective)
    return {
        kind: Traffic(sum(c.visit.times for c in found), sum(c.bytes for c in found), received(found))
        for kind, found in by_kind.items()
        if found
    }


def each(program: Program) -> Iterator[Collective]:
    """The collectives of a program in which groups of several devices take part."""
    for visit in program.visits():
        kind = _kind(visit)
        if kind is None:
            continue
        size, receivers = _group(visit.instruction, program.devices), _receivers(visit.instruction)
        if size == 1:
            continue
        payload = visit.times * sum(array.bytes for array in visit.instruction.outputs)
        if visit.instruction.operation == "reduce-scatter":
            payload *= size
        factor = {"all-reduce": 2 * (size - 1) / size, "collective-permute": 1.0}.get(kind, (size - 1) / size)
        yield Collective(visit, kind, payload, payload * factor, receivers)


def received(found: Iterable[Collective]) -> float:
    """Bytes that the device receives to which most is sent."""
    by_all, by_device = 0.0, collections.Counter[int]()
    for collective in found:
        if collective.receivers is None:
            by_all += collective.wire
        for device in collective.receivers or ():
            by_device[device] += collective.bytes
    return by_all + max(by_device.values(), default=0)


def _kind(visit: Visit) -> str | None:
    """The kind that an instruction is counted as; None if it is not a collective, or a later piece of one."""
    kind = _ALIASES.get(visit.instruction.operation, visit.instruction.operation)
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


def _receivers(instruction: Instruction) -> tuple[int, ...] | None:
    """The devices to which a collective-permute sends; None for other collectives."""
    pairs = re.search(r"source_target_pairs=\{([^=]*)\}", instruction.text)
    return tuple(int(b) for a, b in re.findall(r"\{(\d+),(\d+)\}", pairs[1]) if a != b) if pairs else None


def _group(instruction: Instruction, devices: int) -> int:
    """The number of devices in one replica group.

    The compiler writes groups as lists, as an iota ([groups, size]<=…) or as mesh axes.
    """
    text = instruction.text
    if instruction.operation == "collective-permute":
        return 2 if _receivers(instruction) else 1
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", text):
        return int(iota[1])
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\](.*?)\{([^}]*)\}", text):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[3])  # a part of an axis is written 'axis':(before)size
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return len(listed[1].split(","))
    return devices
