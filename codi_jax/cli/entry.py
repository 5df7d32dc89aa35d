"""The parser of the whole command line, and the program: it runs a verb and ends with its exit code."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from codi_jax import __version__, storage
from codi_jax.cli import (
    chaos,
    compare,
    convert,
    data,
    demo,
    doctor,
    evaluate,
    export,
    generate,
    package,
    plan,
    report,
    serve,
    train,
    world,
)
from codi_jax.cli.common import refuse
from codi_jax.cli.leftovers import Leftovers
from codi_jax.config import ConfigError, first_line
from codi_jax.exit_codes import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_PREEMPTED, EXIT_UNAVAILABLE
from codi_jax.plugins import import_plugins


class Verb(Protocol):
    """A module of a verb."""

    @property
    def HELP(self) -> str:
        """One line about the verb."""
        ...

    @property
    def add_arguments(self) -> Callable[[argparse.ArgumentParser], None]:
        """Adds the options of the verb to its parser."""
        ...

    @property
    def run(self) -> Callable[[argparse.Namespace, Sequence[str]], None]:
        """Runs the verb, with its options and the arguments that the parser does not know."""
        ...


VERBS: dict[str, Verb] = {
    "train": train,
    "plan": plan,
    "generate": generate,
    "serve": serve,
    "convert": convert,
    "export": export,
    "package": package,
    "evaluate": evaluate,
    "report": report,
    "demo": demo,
    "compare": compare,
    "data": data,
    "world": world,
    "chaos": chaos,
    "doctor": doctor,
}


def make_parser(modules: Mapping[str, Verb] = VERBS) -> argparse.ArgumentParser:
    """The parser of the whole command line, or of some verbs."""
    parser = argparse.ArgumentParser(
        prog="codi-jax", description="CoDi in JAX: plan, train, generate, evaluate, report."
    )
    parser.add_argument("--version", action="version", version=f"codi-jax {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in modules.items():
        options = verbs.add_parser(name, help=verb.HELP, description=verb.HELP, allow_abbrev=False)
        options.add_argument(
            "--plugins", default="", metavar="A,B", help="modules to import first, which add modalities and the like"
        )
        verb.add_arguments(options)
    return parser


def user_folder() -> Path | None:
    """The user's cache directory for programs compiled without a workdir; None if it cannot be written."""
    folder = storage.cache_folder("compiled")
    return None if folder is None else folder.parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    # numpy runs in data loading threads next to XLA, so BLAS threads would compete for the same cores. It is read when
    # numpy is first imported; a value set by the user is kept.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["doctor"]:
        return _without_jax("doctor", given)
    args, rest = make_parser().parse_known_args(given)
    import jax

    from codi_jax.parallel import distributed
    from codi_jax.parallel.host import keep_programs, prepare_process

    leftovers = Leftovers(getattr(args, name, None) for name in ("workdir", "out"))
    prepare_process()
    # `plan` has its own cache: programs compiled for other hardware cannot be reused.
    workdir = getattr(args, "workdir", None) if args.verb != "plan" else None
    if args.verb == "evaluate" and args.out is not None:
        workdir = None  # its results are kept elsewhere, and it stays as it is
    if workdir is None and args.verb in ("generate", "evaluate", "serve"):
        workdir = user_folder()
    if workdir is not None:
        keep_programs(workdir)
    try:
        import_plugins(name for name in map(str.strip, args.plugins.split(",")) if name)
        VERBS[args.verb].run(args, rest)
    except ConfigError as error:
        if not jax.distributed.is_initialized():  # other processes may still write
            leftovers.remove()
        refuse(error)
    except KeyboardInterrupt:
        print("codi-jax: interrupted; run the same command to resume from the last checkpoint", file=sys.stderr)
        distributed.exit_process(EXIT_INTERRUPTED)
    except Exception as error:
        end_on_error(error, getattr(args, "out", None) or getattr(args, "workdir", None))


def _without_jax(verb: str, given: Sequence[str]) -> None:
    """Runs a verb without an import of jax, which may be what fails; other verbs import it for their options."""
    try:
        args, rest = make_parser({verb: VERBS[verb]}).parse_known_args(given)
        VERBS[verb].run(args, rest)
    except ConfigError as error:
        print(f"codi-jax: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def end_on_error(error: Exception, where: str | os.PathLike | None) -> NoReturn:
    """Ends the program on an error, in one line if it is of a known kind.

    Args:
      error: the error.
      where: the file or directory that was written.

    Raises:
      Exception: an error of no known kind, in a run of one process.
    """
    import jax

    # Imported here, so that verbs which do not train do not import Orbax.
    from codi_jax.checkpoint import CheckpointError, SaveError
    from codi_jax.parallel import distributed, peers
    from codi_jax.train.stop import Preempted

    if isinstance(error, Preempted):
        if distributed.is_primary():
            print(f"codi-jax: {error}", file=sys.stderr)
        distributed.exit_process(EXIT_PREEMPTED)
    peers.end_if_gone()  # most errors of a run of several processes are a consequence of this
    if line := storage.explain(error, where):
        refuse(line)
    if isinstance(error, SaveError) or storage.is_transient(error):
        what = first_line(error)
        print(f"codi-jax: {what}; run the same command again", file=sys.stderr)
        distributed.exit_process(EXIT_UNAVAILABLE)
    if isinstance(error, CheckpointError):
        refuse(error)
    # In a distributed run an exiting process would wait for the others and then abort.
    if not jax.distributed.is_initialized():
        raise error
    traceback.print_exception(error)
    distributed.exit_process(1)
