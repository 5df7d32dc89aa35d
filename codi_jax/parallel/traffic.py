"""Bytes that a compiled program reads from and writes to a device's main memory, loops included.

Every instruction reads its operands and writes its result; intermediate values of a fusion are not counted. A slice
reads only the slice, a dynamic-update-slice writes only the slice. Arrays that the compiler keeps on the chip (a memory
space other than 0) are not counted.
"""

from codi_jax.parallel.hlo import Array, Instruction, Program

_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("while", "conditional", "call", "async-start", "async-update", "async-done", "opt-barrier"),
}
_SLICES = {"slice", "dynamic-slice", "gather"}


def memory_traffic(program: Program) -> int:
    """Bytes read and written by one device in one call."""
    return sum(
        visit.times * _bytes(visit.instruction, visit.computation, program)
        for visit in program.visits()
        if not visit.fused
    )


def _size(arrays: tuple[Array, ...]) -> int:
    return sum(array.bytes for array in arrays if not array.space)


def _bytes(instruction: Instruction, computation: dict[str, Instruction], program: Program) -> int:
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith("-done"):
        return 0
    result = _size(instruction.result)
    operands = [_size(computation[name].result) for name in instruction.operands]
    if opcode == "fusion":
        (called,) = instruction.called["calls"]
        return _fusion(program.computations[called], operands, instruction)
    if opcode in _SLICES:
        return 2 * result
    if opcode == "dynamic-update-slice":
        return 2 * operands[1]
    if opcode.endswith("-start"):  # the type of its result may include its operands
        result -= sum(operands) if len(instruction.result) > len(operands) else 0
    return sum(operands) + result


def _fusion(body: dict[str, Instruction], operands: list[int], fusion: Instruction) -> int:
    """Bytes that a fusion reads and writes, given the sizes of its operands."""
    total = 0
    for parameter in (i for i in body.values() if i.opcode == "parameter"):
        users = [i for i in body.values() if parameter.name in i.operands]
        whole = operands[int(parameter.literal)]
        reads = [_read(user, parameter.name, whole, body) for user in users]
        total += min(whole, sum(reads))
    (root,) = (i for i in body.values() if i.root)
    results = [body[name] for name in root.operands] if root.opcode == "tuple" else [root]
    for instruction, array in zip(results, fusion.result, strict=False):
        written = _total_bytes(body[instruction.operands[1]]) if instruction.opcode == "dynamic-update-slice" else None
        total += _size((array,)) if written is None or array.space else written
    return total


def _read(user: Instruction, name: str, whole: int, body: dict[str, Instruction]) -> int:
    """Bytes that one instruction of a fusion reads of a parameter of `whole` bytes."""
    if user.operands[0] == name:
        if user.opcode in _SLICES:
            return _total_bytes(user)
        if user.opcode == "dynamic-update-slice":
            return 0
    return whole


def _total_bytes(instruction: Instruction) -> int:
    """The bytes of a result in any memory space: inside a fusion it has none."""
    return sum(array.bytes for array in instruction.result)
