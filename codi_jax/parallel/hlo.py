"""A compiled program as text, read: its instructions, and how often each of them runs.

    %sum.3 = f32[8,256]{1,0} all-reduce(%dot.1), replica_groups=[2,4]<=[8], to_apply=%add
    name     result          opcode     operands attributes

The program of a mesh is that of one device: shapes are those of one device's part. An instruction in the body of a
`while` runs as often as the loop does, which the compiler notes where it knows it; a branch of a `conditional` counts
as taken.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from functools import cached_property

_HEAD = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_CALLED = re.compile(
    r"(calls|to_apply|condition|body|branch_computations|true_computation|false_computation|called_computations)="
    r"(\{[^}]*\}|%?[\w.\-]+)"
)
_LEAF = re.compile(r"([a-z][a-z0-9]*)\[([0-9,<=]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Array:
    """The type of one array: `bytes` on this device, and the space it is in, 0 being the device's main memory."""

    dtype: str
    shape: tuple[int, ...]
    space: int

    @property
    def bytes(self) -> int:
        digits = re.search(r"\d+", self.dtype)  # of f8e4m3fn, 8; a token has none
        bits = 8 if self.dtype == "pred" else int(digits[0]) if digits else 0
        return (bits * math.prod(self.shape) + 7) // 8


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type, which is one or a (nested) tuple of them."""
    out = []
    for dtype, shape, layout in _LEAF.findall(text):
        space = re.search(r"S\((\d+)\)", layout)
        lengths = tuple(int(n.removeprefix("<=")) for n in shape.split(",") if n)
        out.append(Array(dtype, lengths, int(space[1]) if space else 0))
    return tuple(out)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation; `text` is all that follows the operands."""

    name: str
    result: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    literal: str  # what stands between the parentheses
    text: str
    root: bool

    @cached_property
    def called(self) -> dict[str, tuple[str, ...]]:
        """Computations that it runs, by the attribute that names them."""
        return {how: tuple(re.findall(r"[\w.\-]+", names)) for how, names in _CALLED.findall(self.text)}


@dataclasses.dataclass(frozen=True)
class Visit:
    """An instruction, the computation it is in, how often a call of the program runs it, and whether inside a fusion:
    then what it makes and takes need not exist."""

    instruction: Instruction
    computation: dict[str, Instruction]
    times: int
    fused: bool


class Program:
    """A compiled program.

    Attributes:
      computations: name -> its instructions by name, in order.
      entry: name of the computation that is run.
      devices: over how many the program is spread.
    """

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        partitions = re.search(r"num_partitions=(\d+)", text)
        self.devices = int(partitions[1]) if partitions else 1
        own: dict[str, Instruction] | None = None
        for line in text.splitlines():
            if own is None:
                if head := _COMPUTATION.match(line):
                    own = self.computations[head[2]] = {}
                    self.entry = head[2] if head[1] else self.entry
            elif line.startswith("}"):
                own = None
            elif head := _HEAD.match(line):
                instruction = _instruction(head, line)
                own[instruction.name] = instruction
        if not self.entry:
            raise ValueError("no ENTRY computation: not the text of a compiled program")

    def visits(self) -> Iterator[Visit]:
        """Every instruction that a call runs."""
        yield from self._visits(self.entry, 1, False)

    def unknown_loops(self) -> tuple[str, ...]:
        """Loops of which nobody can say how often they run; each is counted as one turn."""
        loops = (v for v in self.visits() if v.instruction.opcode == "while")
        return tuple(v.instruction.name for v in loops if self._turns(v.instruction, v.computation) is None)

    def _visits(self, name: str, times: int, fused: bool) -> Iterator[Visit]:
        computation = self.computations[name]
        for instruction in computation.values():
            yield Visit(instruction, computation, times, fused)
            turns = self._turns(instruction, computation) if instruction.opcode == "while" else 1
            runs, inside = times * (1 if turns is None else turns), fused or instruction.opcode == "fusion"
            for how, names in instruction.called.items():
                if how == "to_apply" and instruction.opcode != "call":
                    continue  # of two numbers: what a reduction adds by
                for called in names:
                    yield from self._visits(called, runs, inside)

    def _turns(self, loop: Instruction, computation: dict[str, Instruction]) -> int | None:
        """How often the body of a `while` runs: as noted, or as far as a counter goes from one number to another."""
        if noted := _TURNS.search(loop.text):
            return int(noted[1])
        (condition,), (body,) = loop.called["condition"], loop.called["body"]
        test, turn = (self.computations[name] for name in (condition, body))
        compared, after, before = _root(test), _root(turn), computation[loop.operands[0]]
        if compared.opcode != "compare" or "direction=LT" not in compared.text:
            return None
        counter = _origin(test, compared.operands[0])
        at = re.search(r"index=(\d+)", counter.text)
        if counter.opcode != "get-tuple-element" or {after.opcode, before.opcode} != {"tuple"}:
            return None
        raised = _origin(turn, after.operands[int(at[1])])
        if raised.opcode != "add":
            return None
        steps = [n for n in (_number(turn, name) for name in raised.operands) if n is not None]
        start, end = _number(computation, before.operands[int(at[1])]), _number(test, compared.operands[1])
        if len(steps) != 1 or steps[0] < 1 or start is None or end is None:
            return None
        return max(-(-(end - start) // steps[0]), 0)


def _root(computation: dict[str, Instruction]) -> Instruction:
    return next(i for i in computation.values() if i.root)


def _origin(computation: dict[str, Instruction], name: str) -> Instruction:
    """What makes a value, past copies of it."""
    while computation[name].opcode in ("copy", "bitcast"):
        (name,) = computation[name].operands
    return computation[name]


def _number(computation: dict[str, Instruction], name: str) -> int | None:
    """A whole number that is written in the program."""
    origin = _origin(computation, name)
    written = origin.opcode == "constant" and re.fullmatch(r"-?\d+", origin.literal)
    return int(origin.literal) if written else None


def _closing(text: str, start: int) -> int:
    """The index of the parenthesis that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if not depth:
            return i
    raise ValueError(f"parentheses are not closed: {text[:120]}")


def _instruction(head: re.Match, line: str) -> Instruction:
    at = head.end()
    end = _closing(line, at) + 1 if line[at] == "(" else line.index(" ", at)
    kind, rest = line[at:end], line[end:].lstrip()
    opened = rest.index("(")
    closed = _closing(rest, opened)
    inside = rest[opened + 1 : closed]
    return Instruction(
        name=head[2],
        result=arrays(kind),
        opcode=rest[:opened],
        operands=tuple(_NAME.findall(inside)),
        literal=inside,
        text=rest[closed + 1 :],
        root=bool(head[1]),
    )
