"""Reads the pickle in a PyTorch file with a restricted stack machine that can only describe tensors.

A pickle is a program: GLOBAL names any Python function and REDUCE calls it, so `pickle.load` of an untrusted file runs
untrusted code. PyTorch needs only a small part of that: dicts, a tensor as

    torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)

and a storage as the persistent id ("storage", torch.FloatStorage, key, device, elements). Here GLOBAL accepts only
names of a fixed list, REDUCE calls one of a few functions of this module, and any opcode that is not handled below is
an error. Nothing is imported, and limits bound the time and memory that a file can use.
"""

import dataclasses
import pickle
import pickletools
import struct
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop.mapped import is_natural, plain

MAX_BYTES = 64 << 20
_MAX_OPCODES = 1 << 21
_MAX_NAME = 200

DTYPES: dict[str, np.dtype] = {
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}


@dataclasses.dataclass(frozen=True)
class Storage:
    """An entry of the archive with elements: its key, and their dtype and number."""

    key: str
    dtype: np.dtype
    stored: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """The description of a tensor; offset and strides are in elements of the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Global:
    name: str


class _Ordered(dict):
    """Stands for an OrderedDict, the only object that BUILD may modify."""


def _bad(what: str) -> ConfigError:
    return ConfigError(f"refused: {what} in its pickle is not of the form that PyTorch writes")


def _tensor(*args: Any) -> Tensor:
    if len(args) not in (6, 7):
        raise _bad("a tensor")
    storage, offset, shape, strides = args[:4]
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise _bad("a tensor")
    if not all(map(is_natural, (offset, *shape, *strides))):
        raise _bad("a tensor's shape")
    return Tensor(storage, offset, shape, strides)


def _parameter(*args: Any) -> Tensor:
    if len(args) != 3 or type(args[0]) is not Tensor:
        raise _bad("a parameter")
    return args[0]


def _ordered(*args: Any) -> _Ordered:
    if args:
        raise _bad("an OrderedDict")
    return _Ordered()


def _size(*args: Any) -> tuple:
    if len(args) != 1 or type(args[0]) is not tuple:
        raise _bad("a size")
    return args[0]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
}


def _allowed(name: str) -> _Global:
    if name in _FUNCTIONS or name in DTYPES:
        return _Global(name)
    if name.startswith("torch.") and name.endswith("Storage"):
        raise ConfigError(f"refused: it has elements of the unsupported type {plain(name)}")
    raise ConfigError(f"refused: it refers to {plain(name)}, but a file of weights may hold only tensors")


class _Machine:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

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
            raise _bad("a string") from None

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + _MAX_NAME)
        if end < 0:
            raise _bad("a name")
        return self.text(end + 1 - self.at)[:-1]

    def top(self, *kinds: type) -> Any:
        """The top of the stack above the last mark; if `kinds` are given, it must be of one of these types."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or (kinds and type(self.stack[-1]) not in kinds):
            raise _bad("the order of opcodes")
        return self.stack[-1]

    def pop(self, *kinds: type) -> Any:
        self.top(*kinds)
        return self.stack.pop()

    def pop_many(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise _bad("the order of opcodes")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict, _Ordered)
        if len(items) % 2:
            raise _bad("a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a key of another type could take forever.
            if type(key) is not str and not is_natural(key):
                raise ConfigError("refused: it has a key that is neither a string nor an index")
            if key in target:
                raise ConfigError(f"refused: it has the key {plain(str(key))} twice")
            target[key] = value

    def recall(self, index: int) -> Any:
        if index not in self.memo:
            raise _bad("a reference")
        return self.memo[index]

    def storage(self) -> Storage:
        match self.pop(tuple):
            case ("storage", _Global(name), str(key), str(), stored) if name in DTYPES and is_natural(stored):
                return Storage(key, DTYPES[name], stored)
        raise _bad("a storage")

    def call(self) -> Any:
        args, function = self.pop(tuple), self.pop(_Global)
        if function.name not in _FUNCTIONS:
            raise _bad("a call")
        return _FUNCTIONS[function.name](*args)

    def run(self) -> Any:
        push, code = self.stack.append, pickle
        for _ in range(_MAX_OPCODES):
            match opcode := self.take(1):
                case code.BINGET:
                    push(self.recall(self.number("<B")))
                case code.LONG_BINGET:
                    push(self.recall(self.number("<I")))
                case code.BINPUT:
                    self.memo[self.number("<B")] = self.top()
                case code.LONG_BINPUT:
                    self.memo[self.number("<I")] = self.top()
                case code.MEMOIZE:
                    self.memo[len(self.memo)] = self.top()
                case code.BININT1:
                    push(self.number("<B"))
                case code.BININT2:
                    push(self.number("<H"))
                case code.BININT:
                    push(self.number("<i"))
                case code.LONG1:
                    push(pickle.decode_long(self.take(self.number("<B"))))
                case code.BINFLOAT:
                    push(self.number(">d"))
                case code.BINUNICODE:
                    push(self.text(self.number("<I")))
                case code.SHORT_BINUNICODE:
                    push(self.text(self.number("<B")))
                case code.NONE:
                    push(None)
                case code.NEWTRUE:
                    push(True)
                case code.NEWFALSE:
                    push(False)
                case code.MARK:
                    self.marks.append(len(self.stack))
                case code.EMPTY_TUPLE:
                    push(())
                case code.TUPLE1:
                    push(tuple(self.pop_many(1)))
                case code.TUPLE2:
                    push(tuple(self.pop_many(2)))
                case code.TUPLE3:
                    push(tuple(self.pop_many(3)))
                case code.TUPLE:
                    push(tuple(self.pop_mark()))
                case code.EMPTY_LIST:
                    push([])
                case code.APPEND:
                    item = self.pop()
                    self.top(list).append(item)
                case code.APPENDS:
                    items = self.pop_mark()
                    self.top(list).extend(items)
                case code.EMPTY_DICT:
                    push({})
                case code.SETITEM:
                    self.set_items(self.pop_many(2))
                case code.SETITEMS:
                    self.set_items(self.pop_mark())
                case code.GLOBAL:
                    push(_allowed(f"{self.line()}.{self.line()}"))
                case code.STACK_GLOBAL:
                    name, module = self.pop(str), self.pop(str)
                    push(_allowed(f"{module}.{name}"))
                case code.BINPERSID:
                    push(self.storage())
                case code.REDUCE:
                    push(self.call())
                case code.BUILD:
                    # The attributes of an OrderedDict, which are versions of modules, are dropped.
                    self.pop(dict, _Ordered)
                    self.top(_Ordered)
                case code.INST:
                    name = f"{self.line()}.{self.line()}"
                    raise ConfigError(
                        f"refused: it creates a {plain(name)}, but a file of weights may hold only tensors"
                    )
                case code.PROTO:
                    if self.number("<B") not in range(2, 6):
                        raise _bad("the protocol")
                case code.FRAME:
                    self.take(8)
                case code.STOP:
                    result = self.pop()
                    if self.stack or self.marks or self.at != len(self.data):
                        raise _bad("the end")
                    return result
                case _:
                    known = next((op for op in pickletools.opcodes if op.code == opcode.decode("latin-1")), None)
                    what = f"the opcode {known.name}" if known else f"byte {opcode[0]}"
                    raise ConfigError(f"refused: {what} in its pickle is not needed for tensors")
        raise ConfigError(f"refused: its pickle has over {_MAX_OPCODES} opcodes")


def load(data: bytes) -> Any:
    """Reads a pickle of dicts, lists, tuples, strings, numbers, None and tensors, each of which becomes a `Tensor`.

    Raises:
      ConfigError: the pickle has anything else, or exceeds a limit.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"refused: its pickle has over {MAX_BYTES} bytes")
    return _Machine(data).run()
