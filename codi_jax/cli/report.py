"""`codi-jax report`."""

import argparse
from collections.abc import Sequence

from codi_jax.cli.common import add_workdir, refuse_arguments

HELP = "write report.html from the results of train and, if there are any, of evaluate in the workdir"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser)


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Writes the page and prints its path."""
    refuse_arguments(rest)
    from codi_jax.digit_world.report import page
    from codi_jax.report import training_page
    from codi_jax.train.recipe import load_run

    run = load_run(args.workdir)
    evaluated = (run.folder / "metrics.json").exists()
    print(page.write(args.workdir) if evaluated else training_page.write(run))
