"""`codi-jax train`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codi_jax.cli.common import (
    add_workdir,
    changed_config,
    directory,
    names_config,
    names_file,
    print_choices,
    read_config,
    refuse_arguments,
)
from codi_jax.config import ConfigError

if TYPE_CHECKING:
    from codi_jax.train.recipe import Run

HELP = "run a recipe, or some of its stages; finished stages are skipped, interrupted ones resume"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser)
    parser.epilog = (
        "--config=NAME[:argument] names the config and --config.a.b=value overrides a field of it; the result is saved "
        "in the workdir, so that later calls need only the workdir. There --config.stages.GROUP.NAME.steps=MORE lets a "
        "stage go on, from its optimizer and its EMA."
    )
    parser.add_argument("--stage", action="append", default=[], metavar="NAME", help="only this stage (repeatable)")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="train independent stages in parallel, in N processes (1)"
    )
    parser.add_argument(
        "--reuse",
        type=directory,
        metavar="WORKDIR",
        help="copy the finished stages of another run whose definitions, dependencies included, are the same here",
    )
    parser.add_argument(
        "--profile",
        metavar="START,STEPS",
        help="trace STEPS steps of each stage for xprof, from step START of the session on",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="do not print the table of parameters and the kernels of attention"
    )


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Trains the stages named by --stage, or all."""
    train(
        args.workdir,
        rest,
        stages=args.stage,
        jobs=args.jobs,
        reuse_from=args.reuse,
        trace=args.profile,
        quiet=args.quiet,
    )


def train(
    workdir: Path,
    rest: Sequence[str],
    *,
    stages: Sequence[str] = (),
    objective: str | None = None,
    jobs: int = 1,
    reuse_from: Path | None = None,
    trace: str | None = None,
    quiet: bool = True,
) -> None:
    """Trains stages of the run in a workdir.

    Args:
      workdir: directory of the run.
      rest: --config and its overrides; for a workdir that has its config none, or overrides that it agrees with or that
        give stages more steps.
      stages: names of the stages; all by default.
      objective: train all stages of this objective instead.
      jobs: number of processes that train independent stages side by side.
      reuse_from: workdir whose finished stages are copied.
      trace: "START,STEPS" of a profile.
      quiet: do not print the table of parameters and the kernels of attention.

    Raises:
      ConfigError: an argument or the config is invalid.
    """
    from codi_jax.parallel import distributed
    from codi_jax.parallel.host import keep_freed_memory
    from codi_jax.train import lease, trainer
    from codi_jax.train.jobs import train_side_by_side
    from codi_jax.train.profile import parse
    from codi_jax.train.program import check_objectives
    from codi_jax.train.recipe import edited, load_run, open_run, save_config
    from codi_jax.train.reuse import reuse
    from codi_jax.train.weights_record import record_weights

    if jobs < 1:
        raise ConfigError(f"--jobs: expected a positive number, got {jobs}")
    profile = None if trace is None else parse(trace)
    if profile and jobs > 1:
        raise ConfigError(f"--profile: parallel stages (--jobs={jobs}) would distort the trace; leave --jobs out")
    processes = distributed.requested()
    if processes is not None and jobs > 1:
        raise ConfigError(f"--jobs={jobs}: parallel stages are not supported in a distributed run")
    keep_freed_memory()

    config, begun = None, (workdir / "config.json").exists()
    if names_config(rest) or not begun:
        config = changed_config(workdir, rest) if begun and not names_file(rest) else read_config(rest)
        recipe = open_run(config, workdir)
        check_objectives(recipe, recipe.order)
        save_config(config, workdir, write=False)
    else:
        refuse_arguments(rest)
        recipe = load_run(workdir)

    selected = _selected(recipe, stages, objective)
    _ = recipe.converted  # refuses `config.weights` before anything is written

    def begin() -> None:
        if begun and (line := edited(workdir)):
            print(f"codi-jax: {line}", file=sys.stderr, flush=True)
        if config is not None:
            save_config(config, workdir)
        record_weights(recipe)
        for name in reuse(recipe, reuse_from) if reuse_from else ():
            print(f"{name}  from {reuse_from}", flush=True)

    distributed.start(processes)  # every process has validated the config before
    with lease.hold(workdir):
        distributed.run_on_primary(begin, f"start the run in {workdir}")
        if not (workdir / "config.json").exists():
            raise ConfigError(f"{workdir} is not the same directory for all processes; it has to be on a shared disk")
        if jobs > 1:
            train_side_by_side(recipe, selected, jobs, quiet)
        else:
            if not quiet and distributed.is_primary():
                print_choices()
            trainer.train(recipe, selected, quiet, profile)


def _selected(recipe: "Run", stages: Sequence[str], objective: str | None) -> tuple[str, ...] | None:
    """The stages to train; None for all.

    Raises:
      ConfigError: an unknown stage, or no stage of the objective.
    """
    for name in stages:
        recipe.stage(name)
    if objective is None:
        return tuple(stages) or None
    if not (selected := tuple(name for name in recipe.order if recipe.stage(name).objective == objective)):
        raise ConfigError(f"no stage of this recipe has the objective {objective!r}")
    return selected
