"""`codi-jax evaluate`."""

import argparse
import dataclasses
from collections.abc import Sequence

from codi_jax.cli.common import add_workdir, end_on, refuse_arguments

HELP = "evaluate a trained run: metrics.json, samples.npz, and a table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="evaluate a packaged model, or a folder written by `package`; the workdir is for the results",
    )
    parser.add_argument(
        "--judges",
        metavar="NAME",
        help="take the judges of a packaged model, or of a folder written by `package`, instead of the config's",
    )


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Prints the table and the verdict; exits with 1 below the floors."""
    refuse_arguments(rest)
    from ml_collections import ConfigDict

    from codi_jax.digit_world.benchmark.run import evaluate, make_verdict, table
    from codi_jax.packaged import open_package
    from codi_jax.parallel.host import keep_freed_memory
    from codi_jax.train.recipe import load_run, open_run, save_config
    from codi_jax.train.variables import variables_of

    if args.model is None:
        recipe = load_run(args.workdir)
        variables = variables_of(recipe)
    else:
        package = open_package(args.model)
        recipe = open_run(package.run, args.workdir)
        variables = package.read("model")
        save_config(ConfigDict(package.run), args.workdir)
    config = recipe.config
    if args.judges:
        config = dataclasses.replace(config, evaluate={**config.evaluate, "judges": args.judges})
    keep_freed_memory()
    metrics = evaluate(recipe.codi, config, variables, args.workdir)
    print(table(metrics))
    end_on(make_verdict(metrics, config))
