"""`codi-jax evaluate --samples`: measures files of samples that anybody made."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from codi_jax.cli.common import numbers, refuse_arguments, split_config
from codi_jax.config import ConfigError

if TYPE_CHECKING:
    from codi_jax.evaluation.settings import Settings

OF_RUNS = ("workdir", "model", "judges", "parts", "n")  # options of the evaluation of a run
OF_SAMPLES = ("real", "networks", "metrics", "batch_size", "seconds", "frames", "resamples")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this mode."""
    group = parser.add_argument_group("of files of samples, instead of a run")
    group.add_argument("--samples", metavar="DIR", help="measure the files of this folder, or of a table; needs --out")
    group.add_argument("--real", metavar="DIR", help="real samples to compare with, or references of the same names")
    group.add_argument(
        "--networks",
        metavar="A=WEIGHTS,B=…",
        help="feature networks: inception=FILE, vggish=FILE (or directory of convert), tower=MODEL or workdir, "
        "tower:LABEL=… for a further one; random instead of a file tries the command",
    )
    group.add_argument("--metrics", metavar="A,B", help="only these metrics, such as fid,kid (all that apply)")
    group.add_argument("--batch-size", metavar="B", help="samples that a network computes at a time (32)")
    group.add_argument("--seconds", metavar="S", help="measure audio up to this length (10)")
    group.add_argument("--frames", metavar="T", help="frames of a video that networks of images see (16)")
    group.add_argument("--resamples", metavar="R", help="of bootstrap intervals; 0 for none (200 if affordable)")


def refuse_without_samples(args: argparse.Namespace) -> None:
    """Raises ConfigError if an option of this mode is given without --samples."""
    for name in OF_SAMPLES:
        if getattr(args, name) is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')} needs --samples=DIR, a folder of files to measure, or --suite"
            )


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Prints the table.

    Raises:
      ConfigError: options of the evaluation of a run are given, too, or --out is missing.
    """
    from codi_jax import storage
    from codi_jax.evaluation.measure import check_metrics, measure, table
    from codi_jax.parallel import distributed
    from codi_jax.parallel.host import keep_freed_memory
    from codi_jax.progress import ProgressLines

    config, others = split_config(rest)
    refuse_arguments(others)
    given = [f"--{name}" for name in OF_RUNS if getattr(args, name) is not None]
    given += ["--split"] if args.split != "test" else []
    if given := [*given, *config]:
        raise ConfigError(f"--samples and {given[0]}: files are measured as they are; {given[0]} is for a run")
    if args.out is None:
        raise ConfigError("--samples needs --out=DIRECTORY for metrics.json and the features")
    if (args.out / "config.json").exists():
        raise ConfigError(f"--out: {args.out} is a workdir or a package (config.json); choose another folder")
    settings = settings_of(args)
    check_metrics(settings.metrics)
    storage.check_output(args.out)
    distributed.start(distributed.requested())
    keep_freed_memory()
    progress = ProgressLines() if distributed.is_primary() else silent
    found = measure(args.samples, args.real, args.networks or "", args.out, settings, progress)
    if distributed.is_primary():
        print(table(found), flush=True)


def settings_of(args: argparse.Namespace) -> "Settings":
    """The settings of a measurement.

    Raises:
      ConfigError: a number that is none, or that is out of range.
    """
    from codi_jax.evaluation.settings import Settings

    kinds = {"batch_size": int, "seconds": float, "frames": int, "resamples": int, "seed": int}
    return Settings(metrics=names_of(args.metrics), **numbers(args, kinds))


def names_of(text: str | None) -> tuple[str, ...]:
    """The names that an option lists, separated by commas."""
    return tuple(filter(None, map(str.strip, (text or "").split(","))))


def silent(activity: str, done: int = 0, total: int = 0, /) -> None:
    """The progress of the processes beside the first one."""
