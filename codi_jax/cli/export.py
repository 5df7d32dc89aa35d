"""`codi-jax export`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from codi_jax.cli.common import add_workdir, run_of

HELP = "write the release's checkpoint files from components of this model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser, config=True)
    parser.add_argument("--out", type=Path, required=True, help="directory for the .pth files")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Writes the files and prints a table of them."""
    from codi_jax.interop.export import export
    from codi_jax.parallel.host import return_freed_memory

    return_freed_memory()
    recipe = run_of(args, rest)
    print(export(recipe.codi, recipe.component_sources(recipe.finished_stages()), args.out))
