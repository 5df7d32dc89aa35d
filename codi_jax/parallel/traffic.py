"""Bytes that a compiled program reads from and writes to a device's main memory, loops included.

Every instruction reads its operands and writes its result, each once, including the padding of a TPU's tiles; a Pallas
kernel that reads a block again counts less than it reads. A slice reads only the slice, a dynamic-update-slice writes
only the slice; `fusions` follows them into fusions, whose intermediate values are not in memory. An asynchronous
operation is counted at its start. Arrays that the compiler keeps on the chip are not counted.
"""

from collections.abc import Iterator

from codi_jax.parallel.fusions import fusion_traffic
from codi_jax.parallel.hlo import Array, Instruction, Program, Visit

DEVICE, HOST = 0, 5  # memory spaces
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("while", "conditional", "call", "async-start", "opt-barrier", "add-dependency", "domain"),
}
_FREE_TARGETS = ("AllocateBuffer", "ConcatBitcast")  # a buffer without values; operands that are adjacent in memory
_SLICES = {"slice", "dynamic-slice", "gather"}


def memory_traffic(program: Program, space: int = DEVICE) -> int:
    """Bytes read from and written to a memory space by one device in one call."""
    return sum(traffic for _, traffic in traffic_by_instruction(program, space))


def traffic_by_instruction(program: Program, space: int = DEVICE) -> Iterator[tuple[Visit, int]]:
    """Every instruction that is not in a fusion, and the bytes that it reads and writes in all of its runs."""
    for visit in program.visits():
        if not visit.fused:
            yield visit, visit.times * _bytes(visit.instruction, visit.computation, program, space)


def _bytes(instruction: Instruction, computation: dict[str, Instruction], program: Program, space: int) -> int:
    operation = instruction.operation
    if operation in _FREE or operation.endswith(("-done", "-update")):
        return 0
    if operation == "custom-call" and any(f'"{target}"' in instruction.text for target in _FREE_TARGETS):
        return 0
    operands = [computation[name].result for name in instruction.operands]
    if operation == "fusion":
        return fusion_traffic(program, instruction, [x[0] if len(x) == 1 else None for x in operands], space)

    def stored(arrays: tuple[Array, ...]) -> int:
        return sum(array.stored for array in arrays if array.space == space)

    def part(arrays: tuple[Array, ...], buffer: tuple[Array, ...]) -> int:
        """Bytes of a part of a buffer, wherever the part itself is."""
        return sum(array.stored for array in arrays) if buffer[0].space == space else 0

    if operation in _SLICES:
        indices = sum(stored(x) for x in operands[1:])
        return indices + part(instruction.outputs, operands[0]) + stored(instruction.outputs)
    if operation == "dynamic-update-slice":
        return stored(operands[1]) + part(operands[1], operands[0])
    if operation == "scatter" and len(operands) == 3:  # reads what it combines the updates with
        return stored(operands[1]) + stored(operands[2]) + 2 * part(operands[2], operands[0])
    return sum(stored(computation[name].result) for name in set(instruction.operands)) + stored(instruction.outputs)
