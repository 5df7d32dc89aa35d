"""The steps of `codi-jax demo`. Each step writes its results to files, so that an interrupted demo resumes.

page       OUT/index.html, see `demo.page`
train      the stages of a config in the workdir OUT, as `codi-jax train` runs them
measure    OUT/metrics.json, OUT/report.html and the verdict, see `demo.measure`
"""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from codi_jax.digit_world.benchmark.run import make_verdict, table
from codi_jax.digit_world.benchmark.verdict import Verdict
from codi_jax.digit_world.demo import measure, page
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.progress import ProgressLines
from codi_jax.train.recipe import load_run, open_run, save_config


def demo(
    workdir: Path, config: ConfigDict | None, train: Callable[[], None], with_page: bool, model: str | None
) -> Verdict | None:
    """Runs the steps and prints their results; without a config, given or in the workdir, only the page.

    Args:
      workdir: directory of the page and of the run.
      config: what to train; None for the config in the workdir, if it has one.
      train: trains it in the workdir.
      with_page: whether to write the page.
      model: the model of the page: a packaged one, or a folder written by `package`; None for the default.

    Returns:
      The verdict on the trained model; None if none was trained, or if its config has no floors.

    Raises:
      ConfigError: the config or the package is invalid.
    """
    if config is not None:  # report its errors before generating the page
        open_run(config, workdir)
        save_config(config, workdir, write=False)
    steps = ("page", "train", "measure") if with_page else ("train", "measure")

    def start(step: str, title: str) -> None:
        print(f"[{steps.index(step) + 1}/{len(steps)}] {title}", flush=True)

    if with_page:
        package = open_package(model or DEFAULT)
        start("page", f"samples of the packaged model {package.name}")
        path, commands = page.write(package, workdir, ProgressLines())
        print("\n".join([f"open {path}", "commands to try:", *(f"  {command}" for command in commands)]), flush=True)
    if config is None and not (workdir / "config.json").exists():
        print("--config=digit_world, in a checkout of the repository, trains a model from scratch", flush=True)
        return None
    start("train", "training from scratch")
    train()
    start("measure", "evaluating the trained model")
    run = load_run(workdir)
    metrics, report = measure.measure(run)
    print(f"{table(metrics)}\n\nopen {report}", flush=True)
    return make_verdict(metrics, run.config)
