"""`codi-jax demo`."""

import argparse
from collections.abc import Sequence
from functools import partial

from codi_jax.cli.common import directory, end_on, read_config
from codi_jax.cli.train import train
from codi_jax.config import ConfigError

HELP = "write a page of samples of the packaged model; then train and evaluate your own model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.epilog = (
        "--config=NAME[:argument] names the config to train, as for `train`; without it only the page is written. An "
        "interrupted demo resumes. Exit code 1 means that the model is below the floors of the config."
    )
    parser.add_argument(
        "--out", dest="workdir", type=directory, required=True, help="directory of the page and of the run"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="as for `train` (1)")
    parser.add_argument("--reuse", type=directory, metavar="WORKDIR", help="as for `train`")
    parser.add_argument(
        "--no-page",
        dest="page",
        action="store_false",
        help="only train and evaluate, without the page of the packaged model",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="model of the page: a packaged model, a folder written by `package`, or hf://org/name",
    )


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Runs the steps; exits with 1 if the trained model is below its floors."""
    from codi_jax.digit_world.demo.verb import demo
    from codi_jax.parallel import distributed

    if distributed.requested() is not None:
        raise ConfigError("demo runs in one process; use `codi-jax train` for several")
    if args.jobs < 1:
        raise ConfigError(f"--jobs: expected a positive number, got {args.jobs}")
    config = read_config(rest) if rest else None
    training = partial(train, args.workdir, rest, jobs=args.jobs, reuse_from=args.reuse)
    end_on(demo(args.workdir, config, training, args.page, args.model))
