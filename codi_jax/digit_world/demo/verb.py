"""The steps of `codi-jax demo`. Each step writes its results to files, so that an interrupted demo resumes.

page       OUT/index.html, see `demo.page`
train      the stages of a config in the workdir OUT, as `codi-jax train` runs them
measure    OUT/metrics.json, OUT/report.html and the verdict, see `demo.measure`
"""

import argparse
from collections.abc import Callable
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.digit_world.benchmark.run import make_verdict, table
from codi_jax.digit_world.benchmark.verdict import Verdict
from codi_jax.digit_world.demo import measure, page
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.parallel import distributed
from codi_jax.progress import ProgressLines
from codi_jax.train.recipe import load_run, open_run, save_config


def demo(args: argparse.Namespace, config: Any, train: Callable[[], None]) -> Verdict | None:
    """Runs the steps and prints their results; without a config, given or in the workdir, only the page.

    Args:
      args: `workdir`, `page`, `model`, `jobs`, see `codi_jax.arguments`.
      config: the ConfigDict to train, or None.
      train: `codi-jax train` with the arguments of this call.

    Returns:
      The verdict on the trained model; None if none was trained, or if its config has no floors.

    Raises:
      ConfigError: an argument, the config or the package is invalid, or several processes are requested.
    """
    if distributed.requested() is not None:
        raise ConfigError("demo runs in one process; use `codi-jax train` for several")
    if args.jobs < 1:
        raise ConfigError(f"--jobs: expected a positive number, got {args.jobs}")
    if config is not None:  # report its errors before generating the page
        open_run(config, args.workdir)
        save_config(config, args.workdir, write=False)
    steps = ("page", "train", "measure") if args.page else ("train", "measure")

    def start(step: str, title: str) -> None:
        print(f"[{steps.index(step) + 1}/{len(steps)}] {title}", flush=True)

    if args.page:
        package = open_package(args.model or DEFAULT)
        start("page", f"samples of the packaged model {package.name}")
        path, commands = page.write(package, args.workdir, ProgressLines())
        print("\n".join([f"open {path}", "commands to try:", *(f"  {command}" for command in commands)]), flush=True)
    if config is None and not (args.workdir / "config.json").exists():
        print("--config=configs/four.py, in a checkout of the repository, trains a model from scratch", flush=True)
        return None
    start("train", "training from scratch")
    train()
    start("measure", "evaluating the trained model")
    run = load_run(args.workdir)
    metrics, report = measure.measure(run)
    print(f"{table(metrics)}\n\nopen {report}", flush=True)
    return make_verdict(metrics, run.config)
