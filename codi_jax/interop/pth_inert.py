"""Objects beside the weights in a PyTorch file: callbacks, hyperparameters, numpy scalars, optimizers.

Programs that train save them with the weights, so most `.ckpt` files have some. `pth_pickle` puts an `Inert` in the
place of such an object: its class is not imported, nothing is called, and its attributes and items are dropped.

Classes of any package may be skipped so. Of Python's own modules and of torch only those may that hold data or combine
what is named beside them (partial, getattr, reduce), since their other names stand in a pickle either to run code
(os.system) or to make a tensor in a way that is not read. Protocol 2, which torch writes, has the names of Python 2:
`int` is `__builtin__.long` there.
"""

import builtins
import dataclasses
import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

RESAVE = "save its tensors alone where it was written: torch.save(model.state_dict(), NEW)"


@dataclasses.dataclass(frozen=True, eq=False)
class Inert:
    """Stands for a class, a function or an object that is neither imported nor made; only its name is kept.

    Attributes:
      name: of the class or function; of a tensor that cannot be read, what it is.
      tensor: whether it is such a tensor, or its storage, or the function that makes it.
    """

    name: str
    tensor: bool = False


_EXCEPTIONS = [
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
]
# Module -> the names in it that are skipped; of "*" all that have no dot.
_DATA = {
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple Ellipsis "
    "NotImplemented abs all any divmod enumerate filter getattr hash isinstance iter len map max min next pow print "
    "repr reversed round sorted sum type zip " + " ".join(_EXCEPTIONS),
    "collections": "ChainMap Counter OrderedDict UserDict UserList UserString defaultdict deque namedtuple",
    "functools": "partial reduce",
    "operator": "add and_ eq floordiv ge getitem gt itemgetter le lt mul ne neg or_ sub truediv xor",
    "copyreg": "_reconstructor __newobj__ __newobj_ex__",
    "types": "GenericAlias MappingProxyType NoneType SimpleNamespace UnionType",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "random": "Random",
    "re": "_compile Pattern",
    "io": "BytesIO StringIO",
    "logging": "Logger RootLogger getLogger",
    "argparse": "Namespace",
    "time": "struct_time",
    "contextlib": "nullcontext",
    "_codecs": "encode",
    **dict.fromkeys(("array", "collections.abc", "configparser", "dataclasses", "datetime", "decimal", "enum"), "*"),
    **dict.fromkeys(("fractions", "ipaddress", "itertools", "math", "numbers", "string", "typing", "uuid"), "*"),
    **dict.fromkeys(("zoneinfo",), "*"),
}
_ALIASES = {"_functools": "functools", "_io": "io", "_operator": "operator", "_pydatetime": "datetime"}
_ALIASES |= {"pathlib._local": "pathlib", "_collections_abc": "collections.abc", "_decimal": "decimal"}
_TORCH = re.compile(
    r"torch\.(device|dtype|Generator|Tensor|per_\w+|(u?int|float|bfloat|complex)[0-9]+\w*|bool|half|float|double|int|long|short"
    r"|serialization\._get_layout|(_utils\.torch\.)?\w+_format"
    r"|(optim|nn|amp|cuda\.amp|distributed|utils\.data|return_types|_C\._nn|_C\._VariableFunctions)\..+"
    r"|_C\.(Generator|_VariableFunctionsClass|_VariableFunctions))"
)
_UNREAD_TENSOR = re.compile(r"torch\.(_utils|_tensor)\._rebuild_\w+|torch\.(storage\.)?\w+Storage")


def makes_tensor(name: str) -> bool:
    """Whether this is a storage, or a function that makes a tensor."""
    return _UNREAD_TENSOR.fullmatch(name) is not None


def may_skip(name: str) -> bool:
    """Whether an object of this class, or made by this function, is skipped; a file with any other name is refused."""
    if name.startswith("torch."):
        return _TORCH.fullmatch(name) is not None
    module, _, inner = name.rpartition(".")
    module, inner = NAME_MAPPING.get((module, inner), (IMPORT_MAPPING.get(module, module), inner))
    module = _ALIASES.get(module, module)
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return True
    known = _DATA.get(module, "")
    return inner in known.split() or (known == "*" and inner.isidentifier())
