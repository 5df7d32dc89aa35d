"""The steps of `codi-jax demo`. Each leaves what the next call finds, so that an interrupted one goes on.

page       OUT/index.html, see `demo.page`
train      the stages of a config in the workdir OUT, as `codi-jax train` runs them
measure    OUT/metrics.json, OUT/report.html and the verdict, see `demo.measure`
"""

import argparse
from collections.abc import Callable
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.demo import measure, page
from codi_jax.evaluate.run import make_verdict, table
from codi_jax.evaluate.verdict import Verdict
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.parallel import distributed
from codi_jax.progress import ProgressLines
from codi_jax.train.recipe import load_run, open_run, save_config


def demo(args: argparse.Namespace, config: Any, train: Callable[[], None]) -> Verdict | None:
    """Runs the steps and prints what they make; there is only the page if no config is given or in the workdir.

    Args:
      args: `workdir`, `page`, `model`, `jobs`, see `codi_jax.arguments`.
      config: the ConfigDict that was asked for, or None.
      train: `codi-jax train` with the arguments of this call.

    Returns:
      The verdict on what was trained; None if nothing was, or its config has no floors.

    Raises:
      ConfigError: an argument, the config or the package is not what it has to be.
    """
    if distributed.requested() is not None:
        raise ConfigError("demo runs in one process; see `codi-jax train` for several")
    if args.jobs < 1:
        raise ConfigError(f"--jobs: expected a positive number, got {args.jobs}")
    if config is not None:  # what is wrong with it is said before anything is generated
        open_run(config, args.workdir)
        save_config(config, args.workdir, write=False)
    steps = ("page", "train", "measure") if args.page else ("train", "measure")

    def begin(step: str, what: str) -> None:
        print(f"[{steps.index(step) + 1}/{len(steps)}] {what}", flush=True)

    if args.page:
        package = open_package(args.model or DEFAULT)
        begin("page", f"samples by the packaged model {package.name}")
        path, commands = page.write(package, args.workdir, ProgressLines())
        print("\n".join([f"open {path}", "to type next:", *(f"  {command}" for command in commands)]), flush=True)
    if config is None and not (args.workdir / "config.json").exists():
        print("--config=configs/four.py, in a checkout of the repository, trains a model from scratch", flush=True)
        return None
    begin("train", "training from scratch")
    train()
    begin("measure", "measuring what was trained")
    run = load_run(args.workdir)
    metrics, report = measure.measure(run)
    print(f"{table(metrics)}\n\nopen {report}", flush=True)
    return make_verdict(metrics, run.config)
