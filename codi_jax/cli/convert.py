"""`codi-jax convert`."""

import argparse
from collections.abc import Sequence

from codi_jax.cli.common import add_workdir, directory, local_path, names_config, refuse_arguments, run_of, seed
from codi_jax.config import ConfigError

HELP = "convert public checkpoints to components of this model, or to weights of feature networks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser, config=True)
    parser.add_argument(
        "files",
        type=local_path,
        nargs="+",
        metavar="FILE",
        help="files of the release, or of one other checkpoint family (a file, its shards, their index or folder); or "
        "of feature networks (Inception, VGGish), without a config",
    )
    parser.add_argument(
        "--out", type=directory, required=True, help="directory of the components; see config.weights, --networks"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed for parameters that the files do not hold (0)")
    parser.add_argument(
        "--only", default="", metavar="NAMES", help="components to read, such as vision_codec,clip_text (all)"
    )
    parser.add_argument(
        "--ema",
        action="store_true",
        help="read the moving averages (model_ema) of a file, not its weights",
    )


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Writes the components and prints a table of them."""
    from codi_jax.interop.convert import convert
    from codi_jax.interop.convert_networks import convert_networks
    from codi_jax.parallel.host import return_freed_memory

    return_freed_memory()
    if names_config(rest) or args.workdir is not None:
        only = [name for name in args.only.split(",") if name]
        report = convert(run_of(args, rest).codi, args.files, args.out, args.seed, args.ema, only)
    else:
        refuse_arguments(rest)
        if args.ema or args.only:
            raise ConfigError("--ema and --only are for components of a model: give its --config or --workdir")
        report = convert_networks(args.files, args.out)
    print(report)
