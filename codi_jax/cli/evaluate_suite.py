"""`codi-jax evaluate --suite`: a model on the tasks of a paper."""

import argparse
from collections.abc import Sequence

from codi_jax.cli.common import numbers, refuse_arguments, split_config
from codi_jax.cli.evaluate_samples import names_of, settings_of, silent
from codi_jax.cli.models import open_model
from codi_jax.config import ConfigError

OPTIONS = ("datasets", "tasks")
OF_OTHERS = ("samples", "real", "judges", "parts")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this mode."""
    group = parser.add_argument_group("of a suite of tasks on real data sets")
    group.add_argument(
        "--suite",
        metavar="NAME",
        help="generate for the tasks of a paper and measure them by its metrics; paper: those of CoDi. The model is "
        "that of --model, --workdir or --config; needs --datasets and --out",
    )
    group.add_argument(
        "--datasets",
        metavar="A=PATH,B=…",
        help="coco=captions_val2014.json, audiocaps=test.csv, msrvtt=test_videodatainfo.json, ucf101=FOLDER",
    )
    group.add_argument("--tasks", metavar="A,B", help="only these tasks (all whose data sets are given)")


def refuse_without_suite(args: argparse.Namespace) -> None:
    """Raises ConfigError if an option of this mode is given without --suite."""
    for name in OPTIONS:
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name} needs --suite=NAME, such as paper")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Prints the tables.

    Raises:
      ConfigError: an option is missing or belongs to another mode, or see `run_suite`.
    """
    from codi_jax import storage
    from codi_jax.evaluation.measure import check_metrics
    from codi_jax.evaluation.suite import page
    from codi_jax.evaluation.suite.datasets import parse_datasets
    from codi_jax.evaluation.suite.run import find_suite, run_suite
    from codi_jax.evaluation.suite.settings import SuiteConfig
    from codi_jax.parallel import distributed
    from codi_jax.parallel.host import keep_freed_memory
    from codi_jax.progress import ProgressLines

    config, others = split_config(rest)
    refuse_arguments(others)
    given = [name for name in OF_OTHERS if getattr(args, name) is not None]
    if given := [*given, *(["split"] if args.split != "test" else [])]:
        raise ConfigError(f"--suite and --{given[0]}: use only one of them")
    find_suite(args.suite)
    if args.out is None:
        raise ConfigError("--suite needs --out=DIRECTORY for samples, features and metrics.json")
    if (args.out / "config.json").exists():
        raise ConfigError(f"--out: {args.out} is a workdir or a package (config.json); choose another folder")
    datasets = parse_datasets(args.datasets or "")
    settings = settings_of(args)
    check_metrics(settings.metrics)
    given = numbers(args, {"n": int, "seed": int, "batch_size": int})
    suite = SuiteConfig(tasks=names_of(args.tasks), **given)
    storage.check_output(args.out)
    distributed.start(distributed.requested())
    keep_freed_memory()
    model = open_model(args, config, keep=True, all_devices=True)
    primary = distributed.is_primary()
    found = run_suite(
        args.suite,
        model.pipe,
        model.identity,
        datasets,
        args.networks or "",
        args.out,
        suite,
        settings,
        ProgressLines() if primary else silent,
    )
    if primary:
        print(page.text(found))
        print(f"\n{args.out / 'report.html'}", flush=True)
