"""`codi-jax` with one fault, for `codi-jax chaos`: python -m codi_jax.cli.faults FAULT N ARGUMENTS…

checkpoint    the process is killed when the Nth checkpoint is complete but for its index
rename        the process is killed before the Nth file or directory is renamed
renamed       the process is killed after it
full          the disk is full when the index of the Nth checkpoint is written
"""

import errno
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from codi_jax import cli


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _full() -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _wrapped(function: Callable, number: int, fault: Callable[[], None], after: bool = False) -> Callable:
    """The function with a fault before, or after, its call of this number (from 1)."""
    calls = itertools.count(1)

    def call(*arguments: Any, **options: Any) -> Any:
        due = next(calls) == number
        if due and not after:
            fault()
        result = function(*arguments, **options)
        if due and after:
            fault()
        return result

    return call


def install(fault: str, number: int) -> None:
    """Installs a fault in this process."""
    from codi_jax.checkpoint import index

    if fault in ("checkpoint", "full"):
        index.write = _wrapped(index.write, number, _full if fault == "full" else _kill)
    else:
        os.rename = os.replace = _wrapped(os.replace, number, _kill, after=fault == "renamed")


if __name__ == "__main__":
    install(sys.argv[1], int(sys.argv[2]))
    cli.main(sys.argv[3:])
