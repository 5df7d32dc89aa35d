"""Objects beside the weights in a PyTorch file: callbacks, hyperparameters, numpy scalars, optimizers.

Programs that train save them with the weights, so most `.ckpt` files have some. `pth_pickle` puts an `Inert` in the
place of such an object: its class is not imported, nothing is called, and its attributes and items are dropped.

Classes of any package may be skipped so. Of Python's own modules and of torch only those may that hold data, since
their other names stand in a pickle either to run code (os.system) or to make a tensor in a way that is not read.
"""

import dataclasses
import re
import sys

RESAVE = "save its tensors alone where it was written: torch.save(model.state_dict(), NEW)"


@dataclasses.dataclass(frozen=True, eq=False)
class Inert:
    """Stands for a class, a function or an object that is neither imported nor made; only its name is kept."""

    name: str


_BUILTINS = "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple"
_DATA = frozenset(
    [
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _BUILTINS.split()),
        *("collections.Counter", "collections.defaultdict", "collections.deque"),
        *("datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone"),
        *("pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath"),
        *("pathlib._local.Path", "pathlib._local.PosixPath", "pathlib._local.WindowsPath"),
        *("argparse.Namespace", "types.SimpleNamespace", "typing.Any", "typing.Union", "uuid.UUID"),
        *("_codecs.encode", "copyreg._reconstructor", "copy_reg._reconstructor"),
        *("decimal.Decimal", "fractions.Fraction"),
    ]
)
_PYTHON_2 = frozenset(["__builtin__", "StringIO", "cPickle", "commands", "copy_reg", "exceptions", "urllib2"])
_TORCH = re.compile(
    r"torch\.(device|dtype|Generator|(u?int|float|bfloat|complex)[0-9]+\w*|bool|half|float|double|int|long|short"
    r"|(optim|nn|amp|cuda\.amp|distributed|utils\.data)\..+)"
)


def may_skip(name: str) -> bool:
    """Whether an object of this class, or made by this function, is skipped; a file with any other name is refused."""
    root = name.partition(".")[0]
    if root == "torch":
        return _TORCH.fullmatch(name) is not None
    return name in _DATA or not (root in sys.stdlib_module_names or root in _PYTHON_2)
