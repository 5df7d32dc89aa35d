"""Bytes that a fusion reads from and writes to memory.

Of an operand it reads the elements that its results depend on: those of a slice, none of a buffer that is updated in
place or passed on. A result that is a dynamic-update-slice (or scatter) of an operand writes the update only.

The TPU compiler also hides collectives behind computation: a fusion starts one (`AsyncCollectiveStart`), fusions of
other operations carry it on, with its buffers as operands and results, and one ends it. All of its bytes are counted at
the start.
"""

import re
from collections.abc import Iterator

from codi_jax.parallel.hlo import Array, Instruction, Program

Body = dict[str, Instruction]

# Operations whose results depend on more elements of an operand than they have themselves.
_MIXING = {
    *("dot", "convolution", "ragged-dot", "reduce", "reduce-window", "select-and-scatter", "sort", "fft", "topk"),
    *("cholesky", "triangular-solve", "custom-call", "map", "call", "while", "conditional", "scatter"),
    *("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute"),
}
_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # the operand that is written into the first
_ALIAS = re.compile(r"\{(\d*)\}: \(\d+, \{")


def fusion_traffic(program: Program, fusion: Instruction, operands: list[Array | None], space: int) -> int:
    """Bytes read and written in a memory space; an operand that is a tuple is None and counts nothing."""
    (called,) = fusion.called["calls"]
    body = program.computations[called]
    wanted = _wanted(program, body, _aliased(fusion), None)
    total = 0
    for parameter in (i for i in body.values() if i.opcode == "parameter"):
        array = operands[int(parameter.literal)]
        if array is not None and array.space == space and array.elements:
            total += array.stored * wanted[parameter.name] // array.elements
    return total + sum(_written(program, body, fusion, space))


def _written(program: Program, body: Body, fusion: Instruction, space: int) -> Iterator[int]:
    aliased, values = _aliased(fusion), _values(body)
    if len(values) != len(fusion.result):  # one operation with several results
        values = values[:1] * len(fusion.result)
    for i, (value, array) in enumerate(zip(values, fusion.result, strict=True)):
        updated = _updated(program, body, value.name)
        if array.space != space or _carries_on(value, body):
            continue
        if updated is not None and (updated or i in aliased):
            yield updated
        elif not (value.opcode == "custom-call" and i in aliased):  # the operand of a collective that starts
            yield array.stored


def _aliased(fusion: Instruction) -> set[int]:
    """Indices of the results that have the buffer of an operand."""
    _, found, text = fusion.text.partition("output_to_operand_aliasing={")
    return {int(index or 0) for index in _ALIAS.findall(text.partition(")}")[0])} if found else set()


def _values(body: Body) -> list[Instruction]:
    """The instructions that compute the results."""
    (root,) = (i for i in body.values() if i.root)
    return [body[name] for name in root.operands] if root.opcode == "tuple" else [root]


def _carries_on(instruction: Instruction, body: Body) -> bool:
    """Whether it is a part of a collective that another fusion has started."""
    part = "chain_id=" in instruction.text or "AsyncCollectiveDone" in instruction.text
    return part and not any("AsyncCollectiveStart" in other.text for other in body.values())


def _updated(program: Program, body: Body, name: str) -> int | None:
    """Bytes written to compute a value in the buffer of an operand or in an uninitialized one; None if not in one."""
    found = _in_place(program, body, name)
    return found[0] if found else None


def _in_place(program: Program, body: Body, name: str) -> tuple[int, str] | None:
    """Bytes written to compute a value in place, and the instruction that has the buffer; None if not in place."""
    instruction = body[name]
    if instruction.opcode == "parameter" or "AllocateBuffer" in instruction.text:
        return 0, name
    if _relabels(program, instruction):
        return _in_place(program, body, instruction.operands[0])
    if instruction.opcode in _UPDATES:
        before = _in_place(program, body, instruction.operands[0])
        update = body[instruction.operands[_UPDATES[instruction.opcode]]]
        return before and (before[0] + sum(array.stored for array in update.result), before[1])
    if instruction.opcode == "fusion":
        inner = program.computations[instruction.called["calls"][0]]
        (root, *others), found = _values(inner), None
        if not others and (found := _in_place(program, inner, root.name)) and inner[found[1]].opcode == "parameter":
            before = _in_place(program, body, instruction.operands[int(inner[found[1]].literal)])
            return before and (before[0] + found[0], before[1])
        return found
    return None


def _relabels(program: Program, instruction: Instruction) -> bool:
    """Whether it gives the same buffer another type: a bitcast, or a fusion within a fusion that changes tiles."""
    if instruction.opcode != "fusion":
        return instruction.opcode == "bitcast"
    inner = program.computations[instruction.called["calls"][0]]
    return bool(_aliased(instruction)) and {i.opcode for i in inner.values()} <= {"parameter", "copy", "bitcast"}


def _wanted(program: Program, body: Body, aliased: set[int], count: int | None) -> dict[str, int]:
    """How many elements of each value of a fusion's body are read.

    Args:
      aliased: results with the buffer of an operand.
      count: elements of the result that are read, if the fusion is within another; None for all results.
    """
    counts, kept = dict.fromkeys(body, 0), set()  # kept: values whose other elements are not read, but stay in place
    for i, value in enumerate(_values(body)):
        updated = _updated(program, body, value.name) if count is None else None
        if updated or (updated == 0 and i in aliased):
            kept.add(value.name)
        else:
            counts[value.name] += _elements(value) if count is None else count
    for instruction in reversed(body.values()):
        in_place = instruction.name in kept
        counts[instruction.name] = min(counts[instruction.name], _elements(instruction))
        asked = _asked(program, body, instruction, counts[instruction.name], in_place)
        for operand, more in zip(instruction.operands, asked, strict=True):
            counts[operand] += more
        if in_place and instruction.operands and (instruction.opcode != "fusion" or _relabels(program, instruction)):
            kept.add(instruction.operands[0])
    return counts


def _asked(program: Program, body: Body, instruction: Instruction, count: int, in_place: bool) -> list[int]:
    """How many elements of each operand are read to compute `count` elements of an instruction."""
    whole = [_elements(body[name]) for name in instruction.operands]
    if (instruction.root and instruction.opcode == "tuple") or _carries_on(instruction, body):
        return [0] * len(whole)
    if instruction.opcode == "fusion" and not _relabels(program, instruction):
        inner = program.computations[instruction.called["calls"][0]]
        wanted = _wanted(program, inner, set(), None if in_place else count)
        by_position = {int(i.literal): wanted[i.name] for i in inner.values() if i.opcode == "parameter"}
        return [by_position[position] for position in range(len(whole))]
    if in_place and whole:
        combined = whole[2] if instruction.opcode == "scatter" else 0  # with the elements that it adds to
        return [count + combined, *whole[1:]]
    if instruction.opcode in _MIXING:
        return whole if count else [0] * len(whole)
    return [min(length, count) for length in whole]


def _elements(instruction: Instruction) -> int:
    return sum(array.elements for array in instruction.result)
