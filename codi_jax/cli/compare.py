"""`codi-jax compare`."""

import argparse
from collections.abc import Sequence

from codi_jax.cli.common import directory, refuse_arguments

HELP = "compare several evaluated runs in one table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("workdirs", type=directory, nargs="+", metavar="WORKDIR", help="directory of an evaluated run")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Prints the table."""
    refuse_arguments(rest)
    from codi_jax.digit_world.benchmark.compare import read, table

    print(table({str(workdir): read(workdir) for workdir in args.workdirs}))
