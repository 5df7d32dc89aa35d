"""What takes most of the resource that bounds a step: the groups of its instructions with the most bytes or FLOPs.

Instructions are grouped by the jax modules and functions that they come from (`op_name`), without the numbers of layers
and by the last three names only: `unet/inputs_1/attend/self/exp` and `unet/middle/attend/self/exp` are in the group
`attend/self/exp`, of the forward and the backward pass. An instruction without a name, such as a copy or a slice, has
the name of the value that it moves.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

from codi_jax.parallel.chips import Chip
from codi_jax.parallel.collectives import each, received
from codi_jax.parallel.flops import Flops, Product
from codi_jax.parallel.hlo import Array, Instruction, Program, Visit
from codi_jax.parallel.traffic import traffic_by_instruction

COUNT = 3
_WRAPPER = re.compile(r"^(?:transpose|jvp|vmap|jit|checkpoint|remat)\((.*)\)$")
_ANONYMOUS = {"", "while", "body", "cond", "closed_call", "call", "shard_map", "checkpoint", "rematted_computation"}
_NUMBER = re.compile(r"(_|\.)\d+(?=_|\.|$)")


@dataclasses.dataclass
class Group:
    """Instructions of one name: bytes or FLOPs, how often they run, and the largest array."""

    amount: float = 0.0
    count: int = 0
    array: str = ""
    most: float = -1.0

    def add(self, amount: float, count: int, array: str) -> None:
        """Adds an instruction with all of its runs."""
        self.amount, self.count = self.amount + amount, self.count + count
        if amount / count > self.most:
            self.most, self.array = amount / count, array


def group_name(op_name: str) -> str:
    """The group of an `op_name`, or of a program's argument such as `state.params['image']['kernel']`."""
    if "[" in op_name:
        return op_name.split("[")[0]
    names = []
    for part in op_name.split("/")[op_name.startswith("jit(") :]:
        while wrapped := _WRAPPER.match(part):
            part = wrapped[1]
        if part not in _ANONYMOUS:
            names.append(_NUMBER.sub("", part))
    return "/".join(names[-3:])


def memory(program: Program) -> list[dict[str, Any]]:
    """The groups that read and write most bytes of memory."""
    groups: dict[str, Group] = {}
    for visit, traffic in traffic_by_instruction(program):
        if traffic:
            name = group_name(_op_name(visit, program)) or visit.instruction.opcode
            groups.setdefault(name, Group()).add(traffic, visit.times, _array(_moved(visit)))
    return _entries(groups, "bytes")


def interconnect(program: Program) -> list[dict[str, Any]]:
    """The collectives, by kind and shape, with the most bytes that a device receives."""
    found: dict[tuple[str, str], list[Any]] = {}
    for collective in each(program):
        array = _array(collective.visit.instruction.outputs)
        found.setdefault((collective.kind, array), []).append(collective)
    entries = [
        {"what": kind, "array": array, "count": sum(c.visit.times for c in same), "bytes": received(same)}
        for (kind, array), same in found.items()
    ]
    return _most(entries, "bytes")


def compute(flops: Flops, chip: Chip | None) -> list[dict[str, Any]]:
    """The products with most FLOPs on the matrix units of a chip, of all devices."""
    return _products(flops, "flops", chip.on_units if chip else lambda product: product.flops)


def results(flops: Flops, devices: int) -> list[dict[str, Any]]:
    """The products with most bytes of results per device, of a step that is not compiled, as if all were stored.

    Shapes are global; each result is assumed to be split evenly.
    """
    return [
        entry | {"bytes": entry["bytes"] / devices}
        for entry in _products(flops, "bytes", lambda product: product.bytes)
    ]


def _products(flops: Flops, field: str, amount: Callable[[Product], float]) -> list[dict[str, Any]]:
    groups: dict[str, Group] = {}
    for product in flops.products:
        group = groups.setdefault(group_name(product.name), Group())
        group.add(amount(product), product.times, product.array)
    return _entries(groups, field)


def _entries(groups: dict[str, Group], field: str) -> list[dict[str, Any]]:
    entries = [{"what": name, "array": g.array, "count": g.count, field: g.amount} for name, g in groups.items()]
    return _most(entries, field)


def _most(entries: Iterable[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    return sorted((e for e in entries if e[field]), key=lambda entry: -entry[field])[:COUNT]


def _op_name(visit: Visit, program: Program) -> str:
    """The `op_name` of an instruction, of what a fusion computes last, or of the value that is moved."""
    instruction: Instruction | None = visit.instruction
    while instruction is not None:
        if instruction.op_name:
            return instruction.op_name
        body = program.computations[instruction.called["calls"][0]] if instruction.operation == "fusion" else {}
        if inside := [i.op_name for i in body.values() if i.op_name]:
            return inside[-1]
        instruction = visit.computation[instruction.operands[0]] if instruction.operands else None
    return ""


def _moved(visit: Visit) -> tuple[Array, ...]:
    """The results of an instruction, and the operands of which it does not read only a part."""
    instruction = visit.instruction
    if "slice" in instruction.operation:
        return instruction.outputs
    return (*instruction.outputs, *(a for name in instruction.operands for a in visit.computation[name].result))


def _array(arrays: tuple[Array, ...]) -> str:
    """The largest array, as HLO writes its type."""
    largest = max(arrays, key=lambda array: array.bytes)
    return f"{largest.dtype}[{','.join(map(str, largest.shape))}]"
