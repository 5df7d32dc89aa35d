"""`codi-jax convert`."""

import argparse
from collections.abc import Sequence

from codi_jax.cli.common import add_workdir, directory, local_path, names_config, refuse_arguments, run_of

HELP = "convert public checkpoints to components of this model, or to weights of feature networks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser, config=True)
    parser.add_argument(
        "files",
        type=local_path,
        nargs="+",
        metavar="FILE",
        help="files of the release, or of one other checkpoint family; or of feature networks (Inception, VGGish), "
        "without a config",
    )
    parser.add_argument(
        "--out", type=directory, required=True, help="directory of the components; see config.weights, --networks"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed for parameters that the files do not hold (0)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Writes the components and prints a table of them."""
    from codi_jax.interop.convert import convert
    from codi_jax.interop.convert_networks import convert_networks
    from codi_jax.parallel.host import return_freed_memory

    return_freed_memory()
    if names_config(rest) or args.workdir is not None:
        report = convert(run_of(args, rest).codi, args.files, args.out, args.seed)
    else:
        refuse_arguments(rest)
        report = convert_networks(args.files, args.out)
    print(report)
