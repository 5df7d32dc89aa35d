"""`codi-jax world`."""

import argparse
from collections.abc import Sequence

from codi_jax.cli.common import local_path, refuse_arguments, seed

HELP = "write samples of digit_world to look at and listen to"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument(
        "--out", type=local_path, required=True, help="directory for sheet.png, captions, audio and videos"
    )
    parser.add_argument("--split", default="train", help="train, judge, val or test (train)")
    parser.add_argument("--n", type=int, default=12, help="number of samples (12)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the world (0)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Writes the files and prints their paths."""
    refuse_arguments(rest)
    from codi_jax.digit_world import sheet

    for path in sheet.write(args.out, args.split, args.n, args.seed):
        print(path)
