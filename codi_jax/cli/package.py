"""`codi-jax package`."""

import argparse
from collections.abc import Sequence

from codi_jax.cli.common import directory, refuse_arguments

HELP = "write finished runs as a packaged model: safetensors, config.json, card.json, README.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("--workdir", type=directory, help="run of the model; without it only judges are packaged")
    parser.add_argument(
        "--judges",
        type=directory,
        required=True,
        help="run of the judges and similarity towers, or a package that has them",
    )
    parser.add_argument("--out", type=directory, required=True, help="directory for the files")
    parser.add_argument(
        "--dtype", default="float16", help="dtype of the parameters: float16, bfloat16 or float32 (float16)"
    )
    parser.add_argument(
        "--max-shard-size", default=None, metavar="SIZE", help="of a safetensors file; a larger one is in shards (5GB)"
    )
    for option, whose in (("--trained-with", "the model"), ("--judges-trained-with", "the judges")):
        parser.add_argument(option, default="", metavar="FILE:ARGUMENT", help=f"--config of {whose}, for the card")
    parser.add_argument(
        "--commit", default="", help="commit of the code that trained them, for the card (that of the checkout)"
    )


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Writes the package and prints a table of its files."""
    refuse_arguments(rest)
    from codi_jax import packaged
    from codi_jax.digit_world.card import About
    from codi_jax.digit_world.package import package
    from codi_jax.interop.shards import DEFAULT_SIZE
    from codi_jax.train.recipe import load_run

    recipe = None if args.workdir is None else load_run(args.workdir)
    about = About(args.trained_with, args.judges_trained_with, args.commit)
    judging = packaged.open_package(str(args.judges)) if packaged.is_package(args.judges) else load_run(args.judges)
    print(package(recipe, judging, args.out, args.dtype, about, args.max_shard_size or DEFAULT_SIZE))
