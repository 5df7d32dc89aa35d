"""Reads the pickle in a PyTorch file with a restricted stack machine that can only describe tensors.

A pickle is a program: GLOBAL names any Python function and REDUCE calls it, so `pickle.load` of an untrusted file runs
untrusted code. PyTorch needs only a small part of that: dicts, a tensor as

    torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)

and a storage as the persistent id ("storage", torch.FloatStorage, key, device, elements). Here GLOBAL accepts only
names of a fixed list and, beside the weights, of classes that `pth_inert` allows, which become an `Inert`. REDUCE calls
one of a few functions of this module, or makes another `Inert`, and any opcode that is not handled below is an error.
Nothing is imported, and limits bound the time and memory that a file can use.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.interop.mapped import is_natural, plain
from codi_jax.interop.pth_inert import RESAVE, Inert, makes_tensor, may_skip
from codi_jax.interop.pth_tensors import DTYPES, FUNCTIONS, Global, OrderedDict, Storage, bad, unread

MAX_BYTES = 64 << 20
_MAX_OPCODES = 1 << 21
_MAX_NAME = 200


def _global(name: str) -> Global | Inert:
    if name in FUNCTIONS or name in DTYPES:
        return Global(name)
    if makes_tensor(name):
        return Inert(name, tensor=True)
    if may_skip(name):
        return Inert(name)
    raise ConfigError(f"refused: it refers to {plain(name)}, but a file of weights may hold only tensors; {RESAVE}")


class _Machine:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise ConfigError("is damaged: its pickle is truncated")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, count: int) -> str:
        try:
            return self.take(count).decode()
        except UnicodeDecodeError:
            raise bad("a string") from None

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + _MAX_NAME)
        if end < 0:
            raise bad("a name")
        return self.text(end + 1 - self.at)[:-1]

    def top(self, *kinds: type) -> Any:
        """The top of the stack above the last mark; if `kinds` are given, it must be of one of these types."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or (kinds and type(self.stack[-1]) not in kinds):
            raise bad("the order of opcodes")
        return self.stack[-1]

    def pop(self, *kinds: type) -> Any:
        self.top(*kinds)
        return self.stack.pop()

    def pop_many(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise bad("the order of opcodes")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict, OrderedDict, Inert)
        if len(items) % 2:
            raise bad("a dict")
        if type(target) is Inert:
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A tensor has a name by strings and indices only. Hashing a key of another type could take forever.
            if type(key) is not str and not is_natural(key):
                continue
            if key in target:
                raise ConfigError(f"refused: it has the key {plain(str(key))} twice")
            target[key] = value

    def add_items(self, items: list[Any], *kinds: type) -> None:
        target = self.top(*kinds, Inert)
        if type(target) is list:
            target.extend(items)

    def recall(self, index: int) -> Any:
        if index not in self.memo:
            raise bad("a reference")
        return self.memo[index]

    def storage(self) -> Storage | Inert:
        match self.pop(tuple):
            # Legacy files have a sixth item: the part of the storage that is meant, or None for all of it.
            case ("storage", Global(name), str(key), str(), stored, *part) if name in DTYPES and is_natural(stored):
                if part not in ([], [None]):
                    raise bad("a storage")
                self.storages[key] = Storage(key, DTYPES[name], stored)
                return self.storages[key]
            case ("storage", Inert(tensor=True) as kind, *_):
                return kind
        raise bad("a storage")

    def call(self) -> Any:
        args, function = self.pop(tuple), self.pop(Global, Inert)
        if type(function) is Inert:
            return unread(function.name, args) if function.tensor else Inert(function.name)
        if function.name not in FUNCTIONS:
            raise bad("a call")
        return FUNCTIONS[function.name](*args)

    def new(self, opcode: bytes) -> Inert:
        """An object of a class that is skipped; its arguments are dropped."""
        if opcode == pickle.NEWOBJ_EX:
            self.pop(dict, OrderedDict)
        self.pop(tuple)
        made = self.pop(Global, Inert)
        if type(made) is not Inert:
            raise _unneeded(opcode)
        return Inert(made.name)

    def set_attributes(self) -> None:
        """BUILD: the attributes of an OrderedDict, which are versions of modules, and of an `Inert` are dropped."""
        state = self.pop()
        if type(self.top(OrderedDict, Inert)) is OrderedDict and not isinstance(state, dict):
            raise bad("the order of opcodes")

    def run(self) -> Any:
        push, code = self.stack.append, pickle
        for _ in range(_MAX_OPCODES):
            opcode = self.take(1)
            if read := _VALUES.get(opcode):
                push(read(self))
                continue
            match opcode:
                case code.BINPUT:
                    self.memo[self.number("<B")] = self.top()
                case code.LONG_BINPUT:
                    self.memo[self.number("<I")] = self.top()
                case code.MEMOIZE:
                    self.memo[len(self.memo)] = self.top()
                case code.MARK:
                    self.marks.append(len(self.stack))
                case code.POP:
                    self.pop() if len(self.stack) > (self.marks[-1] if self.marks else 0) else self.pop_mark()
                case code.POP_MARK:
                    self.pop_mark()
                case code.APPEND:
                    self.add_items([self.pop()], list)
                case code.APPENDS:
                    self.add_items(self.pop_mark(), list)
                case code.ADDITEMS:
                    self.add_items(self.pop_mark())
                case code.SETITEM:
                    self.set_items(self.pop_many(2))
                case code.SETITEMS:
                    self.set_items(self.pop_mark())
                case code.GLOBAL:
                    push(_global(f"{self.line()}.{self.line()}"))
                case code.STACK_GLOBAL:
                    name, module = self.pop(str), self.pop(str)
                    push(_global(f"{module}.{name}"))
                case code.BINPERSID:
                    push(self.storage())
                case code.REDUCE:
                    push(self.call())
                case code.NEWOBJ | code.NEWOBJ_EX:
                    push(self.new(opcode))
                case code.BUILD:
                    self.set_attributes()
                case code.INST:
                    name = f"{self.line()}.{self.line()}"
                    raise ConfigError(
                        f"refused: it creates a {plain(name)}, but a file of weights may hold only tensors"
                    )
                case code.PROTO:
                    if self.number("<B") not in range(2, 6):
                        raise bad("the protocol")
                case code.FRAME:
                    self.take(8)
                case code.STOP:
                    result = self.pop()
                    if self.stack or self.marks:
                        raise bad("the end")
                    return result
                case _:
                    raise _unneeded(opcode)
        raise ConfigError(f"refused: its pickle has over {_MAX_OPCODES} opcodes")


def _string(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _unneeded(opcode: bytes) -> ConfigError:
    known = next((op for op in pickletools.opcodes if op.code == opcode.decode("latin-1")), None)
    what = f"the opcode {known.name}" if known else f"byte {opcode[0]}"
    return ConfigError(f"refused: {what} in its pickle is not needed for tensors")


# Opcode -> reads the value that it pushes.
_VALUES: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.BINGET: lambda m: m.recall(m.number("<B")),
    pickle.LONG_BINGET: lambda m: m.recall(m.number("<I")),
    pickle.BININT1: lambda m: m.number("<B"),
    pickle.BININT2: lambda m: m.number("<H"),
    pickle.BININT: lambda m: m.number("<i"),
    pickle.LONG1: lambda m: pickle.decode_long(m.take(m.number("<B"))),
    pickle.BINFLOAT: lambda m: m.number(">d"),
    pickle.BINUNICODE: lambda m: m.text(m.number("<I")),
    pickle.SHORT_BINUNICODE: lambda m: m.text(m.number("<B")),
    pickle.BINUNICODE8: lambda m: m.text(m.number("<Q")),
    # Bytes name no tensor; strings of Python 2, which are bytes, do if they are UTF-8.
    pickle.BINBYTES: lambda m: m.take(m.number("<I")),
    pickle.SHORT_BINBYTES: lambda m: m.take(m.number("<B")),
    pickle.BINBYTES8: lambda m: m.take(m.number("<Q")),
    pickle.BYTEARRAY8: lambda m: m.take(m.number("<Q")),
    pickle.BINSTRING: lambda m: _string(m.take(m.number("<I"))),
    pickle.SHORT_BINSTRING: lambda m: _string(m.take(m.number("<B"))),
    pickle.NONE: lambda m: None,
    pickle.NEWTRUE: lambda m: True,
    pickle.NEWFALSE: lambda m: False,
    pickle.EMPTY_TUPLE: lambda m: (),
    pickle.TUPLE1: lambda m: tuple(m.pop_many(1)),
    pickle.TUPLE2: lambda m: tuple(m.pop_many(2)),
    pickle.TUPLE3: lambda m: tuple(m.pop_many(3)),
    pickle.TUPLE: lambda m: tuple(m.pop_mark()),
    pickle.EMPTY_LIST: lambda m: [],
    pickle.EMPTY_DICT: lambda m: {},
    pickle.EMPTY_SET: lambda m: Inert("builtins.set"),
    pickle.FROZENSET: lambda m: (m.pop_mark(), Inert("builtins.frozenset"))[1],
}


def load_one(data: bytes) -> tuple[Any, int, dict[str, Storage]]:
    """Reads the pickle at the beginning of some bytes, as `load` does; returns its end and its storages, too."""
    machine = _Machine(data)
    return machine.run(), machine.at, machine.storages


def load(data: bytes) -> Any:
    """Reads a pickle of dicts, lists, tuples, strings, numbers, None and tensors, each of which becomes a `Tensor`.

    Other objects beside them become an `Inert`.

    Raises:
      ConfigError: the pickle has anything else, or exceeds a limit.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"refused: its pickle has over {MAX_BYTES} bytes")
    value, end, _ = load_one(data)
    if end != len(data):
        raise bad("the end")
    return value
