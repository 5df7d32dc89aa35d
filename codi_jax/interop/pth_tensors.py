"""Tensors as the pickle in a PyTorch file describes them, and the functions that it names to make them.

    torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)
    torch._utils._rebuild_parameter(tensor, requires_grad, hooks), and with attributes …_with_state(…, attributes)
    torch._tensor._rebuild_from_type_v2(function, torch.Tensor, arguments, attributes)

A tensor that is not read (complex, quantized, sparse, of 8-bit floats) becomes an `Inert` with `tensor` set.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop.mapped import is_natural, plain
from codi_jax.interop.pth_inert import Inert

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
class Global:
    """One of `FUNCTIONS`, or the name of a storage of `DTYPES`."""

    name: str


class OrderedDict(dict):
    """Stands for an OrderedDict, the only object that BUILD may modify."""


def bad(what: str) -> ConfigError:
    """The error about a pickle of another form."""
    return ConfigError(f"refused: {what} in its pickle is not of the form that PyTorch writes")


def _tensor(*args: Any) -> Tensor | Inert:
    if len(args) not in (4, 6, 7):  # 4: before torch 0.4
        raise bad("a tensor")
    storage, offset, shape, strides = args[:4]
    if type(storage) is Inert and storage.tensor:
        return storage
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise bad("a tensor")
    if not all(map(is_natural, (offset, *shape, *strides))):
        raise bad("a tensor's shape")
    if len(args) == 7 and isinstance(args[6], dict) and any(args[6].get(bit) for bit in ("neg", "conj")):
        return Inert("a view with its sign changed", tensor=True)
    return Tensor(storage, offset, shape, strides)


def _parameter(*args: Any) -> Tensor | Inert:
    if len(args) not in (3, 4):
        raise bad("a parameter")
    return _made(args[0], "a parameter")


def _with_attributes(*args: Any) -> Tensor | Inert:
    if len(args) != 4 or type(args[2]) is not tuple:
        raise bad("a tensor with attributes")
    function, kind, arguments = args[:3]
    if type(kind) is Inert and kind.name not in ("torch.Tensor", "torch._tensor.Tensor", *_PARAMETERS):
        return Inert(kind.name, tensor=True)
    made = FUNCTIONS[function.name](*arguments) if type(function) is Global and function.name in FUNCTIONS else function
    return _made(made, "a tensor with attributes")


def _made(value: Any, what: str) -> Tensor | Inert:
    if type(value) is Tensor or (type(value) is Inert and value.tensor):
        return value
    raise bad(what)


def _ordered(*args: Any) -> OrderedDict:
    """Of the arguments of Python 2, a list of pairs, only the pairs are kept whose key is a name."""
    if args and (
        len(args) != 1 or type(args[0]) is not list or not all(type(p) is list and len(p) == 2 for p in args[0])
    ):
        raise bad("an OrderedDict")
    out = OrderedDict()
    for key, value in args[0] if args else ():
        if type(key) is str and key in out:
            raise ConfigError(f"refused: it has the key {plain(key)} twice")
        if type(key) is str:
            out[key] = value
    return out


def _size(*args: Any) -> tuple:
    if len(args) != 1 or type(args[0]) is not tuple:
        raise bad("a size")
    return args[0]


_PARAMETERS = ("torch.nn.parameter.Parameter", "torch.nn.Parameter", "torch.nn.parameter.Buffer", "torch.nn.Buffer")
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "torch.Size": _size,
}


def unread(name: str, args: tuple[Any, ...]) -> Inert:
    """What a function that makes a tensor which is not read becomes: an `Inert` with the name of its elements."""
    dtypes = [arg.name for arg in args if type(arg) is Inert and arg.name.startswith("torch.")]
    return Inert(dtypes[-1] if dtypes else name, tensor=True)
