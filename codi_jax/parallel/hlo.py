"""Parses the HLO text of a compiled program: its instructions, and how often each runs.

    %sum.3 = f32[8,256]{1,0} all-reduce(%dot.1), replica_groups=[2,4]<=[8], to_apply=%add
    name     result          opcode     operands attributes

An SPMD program is that of one device, and its shapes are those of one shard. An instruction in the body of a `while` is
counted once per iteration, if the trip count is annotated or can be derived; each branch of a `conditional` is counted
as taken. Computations of the host are left out.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from functools import cached_property

_HEAD = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_END = re.compile(r"\}(,|\s*$)")
_CALLED = re.compile(
    r"(calls|to_apply|condition|body|branch_computations|true_computation|false_computation|called_computations)="
    r"(\{[^}]*\}|%?[\w.\-]+)"
)
_LEAF = re.compile(r"([a-z][a-z0-9]*)\[([0-9,<=]*)\](?:\{([^}]*)\})?")
_LAYOUT = re.compile(r"([\d,]*):T\(([\d,]+)\)")
_NAME = re.compile(r"%([\w.\-]+)")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Array:
    """The type of one array.

    Attributes:
      dtype: as HLO writes it, such as bf16.
      shape: of the array on one device.
      space: memory space; 0 is the device's main memory, 5 that of the host, others are on the chip.
      padded: `shape` as it is in memory, where a TPU pads the two minor dimensions to whole tiles.
    """

    dtype: str
    shape: tuple[int, ...]
    space: int = 0
    padded: tuple[int, ...] | None = None

    @property
    def bytes(self) -> int:
        """Bytes of the elements."""
        return self._bytes(self.shape)

    @property
    def stored(self) -> int:
        """Bytes in memory, including padding."""
        return self._bytes(self.padded or self.shape)

    @property
    def elements(self) -> int:
        """Number of elements, without padding."""
        return math.prod(self.shape)

    def _bytes(self, shape: tuple[int, ...]) -> int:
        digits = re.search(r"\d+", self.dtype)  # 8 in f8e4m3fn; a token has none
        bits = 8 if self.dtype == "pred" else int(digits[0]) if digits else 0
        return (bits * math.prod(shape) + 7) // 8


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type, which is an array type or a (nested) tuple of them."""
    out = []
    for dtype, shape, layout in _LEAF.findall(text):
        space = re.search(r"S\((\d+)\)", layout)
        lengths = tuple(int(n.removeprefix("<=")) for n in shape.split(",") if n)
        out.append(Array(dtype, lengths, int(space[1]) if space else 0, _padded(lengths, layout)))
    return tuple(out)


def _padded(shape: tuple[int, ...], layout: str) -> tuple[int, ...] | None:
    """The shape in whole tiles; None for a layout without tiles.

    In {2,1,0:T(8,128)(2,1)} dimension 2 is the minor one, dimensions 1 and 2 are in tiles of 8 × 128, and the second
    tile only orders the elements within the first.
    """
    found = _LAYOUT.match(layout)
    if found is None or not found[1]:
        return None
    minor_first = [int(dimension) for dimension in found[1].split(",")]
    out = list(shape)
    for dimension, tile in zip(minor_first, reversed([int(n) for n in found[2].split(",")]), strict=False):
        out[dimension] = -(-out[dimension] // tile) * tile
    return tuple(out)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation; `text` is what follows the operands."""

    name: str
    result: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    literal: str  # the text between the parentheses of the operands
    text: str
    root: bool

    @cached_property
    def called(self) -> dict[str, tuple[str, ...]]:
        """The computations that it calls, by the attribute that names them."""
        return {how: tuple(re.findall(r"[\w.\-]+", names)) for how, names in _CALLED.findall(self.text)}

    @property
    def operation(self) -> str:
        """The opcode; of an asynchronous instruction (`slice-start`) that of the operation that it starts."""
        return self.opcode if self.opcode == "async-start" else self.opcode.removesuffix("-start")

    @property
    def outputs(self) -> tuple[Array, ...]:
        """The results; the type of most `-start` instructions is (operands, results, semaphores)."""
        count = len(self.operands)
        if self.opcode == "copy-start":
            return self.result[:1]  # (result, operand, semaphore)
        if not self.opcode.endswith("-start") or len(self.result) <= count:
            return self.result
        return self.result[count : count + 1] if "slice" in self.opcode else self.result[count : 2 * count]

    @property
    def on_host(self) -> bool:
        """Whether it calls a computation of the host."""
        return 'execution_thread="host"' in self.text

    @property
    def op_name(self) -> str:
        """The names of the jax functions and modules that it was traced in, separated by slashes; "" if unknown."""
        found = _OP_NAME.search(self.text)
        return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Visit:
    """An instruction, its computation, how often one call of the program runs it, and whether it is inside a fusion,
    where its operands and result need not exist in memory."""

    instruction: Instruction
    computation: dict[str, Instruction]
    times: int
    fused: bool


class Program:
    """A compiled program.

    Attributes:
      computations: name -> instructions by name, in order.
      entry: name of the entry computation.
      devices: number of partitions of the program.
    """

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        partitions = re.search(r"num_partitions=(\d+)", text)
        self.devices = int(partitions[1]) if partitions else 1
        current: dict[str, Instruction] | None = None
        last = ""
        for line in text.splitlines():
            if current is None:
                if head := _COMPUTATION.match(line):
                    current = self.computations[head[2]] = {}
                    self.entry = head[2] if head[1] else self.entry
            elif _END.match(line):
                current = None
            elif head := _HEAD.match(line):
                instruction = _instruction(head, line)
                current[instruction.name] = instruction
                last = instruction.name
            elif last in current:  # the attributes of a Pallas kernel have several lines
                current[last] = dataclasses.replace(current[last], text=f"{current[last].text}\n{line}")
        if not self.entry:
            raise ValueError("no ENTRY computation: this is not the text of a compiled program")

    def visits(self) -> Iterator[Visit]:
        """Every instruction that a call of the program runs."""
        yield from self._visits(self.entry, 1, False)

    def unknown_loops(self) -> tuple[str, ...]:
        """Loops whose trip count is unknown; their body is counted once."""
        loops = (v for v in self.visits() if v.instruction.opcode == "while")
        return tuple(v.instruction.name for v in loops if self._trip_count(v.instruction, v.computation) is None)

    def host_calls(self) -> tuple[str, ...]:
        """Calls of computations of the host, which `visits` leaves out."""
        starts = (v.instruction for v in self.visits() if v.instruction.on_host)
        return tuple(i.name for i in starts if not i.opcode.endswith(("-update", "-done")))

    def _visits(self, name: str, times: int, fused: bool) -> Iterator[Visit]:
        computation = self.computations[name]
        for instruction in computation.values():
            yield Visit(instruction, computation, times, fused)
            trips = self._trip_count(instruction, computation) if instruction.opcode == "while" else 1
            runs, inside = times * (1 if trips is None else trips), fused or instruction.operation == "fusion"
            if instruction.opcode.endswith(("-update", "-done")) or instruction.on_host:
                continue  # its computation is that of its start, or not of the device
            for how, names in instruction.called.items():
                if how == "to_apply" and instruction.operation != "call":
                    continue  # the scalar function of a reduction
                for called in names:
                    yield from self._visits(called, runs, inside)

    def _trip_count(self, loop: Instruction, computation: dict[str, Instruction]) -> int | None:
        """The trip count of a `while`: annotated, or derived from a counter that goes from one constant to another."""
        if annotated := _TRIP_COUNT.search(loop.text):
            return int(annotated[1])
        (condition,), (body,) = loop.called["condition"], loop.called["body"]
        test, step = (self.computations[name] for name in (condition, body))
        compared, after, before = _root(test), _root(step), computation[loop.operands[0]]
        if compared.opcode != "compare" or "direction=LT" not in compared.text:
            return None
        counter = _origin(test, compared.operands[0])
        at = re.search(r"index=(\d+)", counter.text)
        if at is None or counter.opcode != "get-tuple-element" or {after.opcode, before.opcode} != {"tuple"}:
            return None
        raised = _origin(step, after.operands[int(at[1])])
        if raised.opcode != "add":
            return None
        steps = [n for n in (_number(step, name) for name in raised.operands) if n is not None]
        start, end = _number(computation, before.operands[int(at[1])]), _number(test, compared.operands[1])
        if len(steps) != 1 or steps[0] < 1 or start is None or end is None:
            return None
        return max(-(-(end - start) // steps[0]), 0)


def _root(computation: dict[str, Instruction]) -> Instruction:
    return next(i for i in computation.values() if i.root)


def _origin(computation: dict[str, Instruction], name: str) -> Instruction:
    """The instruction that computes a value, past copies and bitcasts."""
    while computation[name].opcode in ("copy", "bitcast"):
        (name,) = computation[name].operands
    return computation[name]


def _number(computation: dict[str, Instruction], name: str) -> int | None:
    """The value of an integer constant; None for any other instruction."""
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
