"""`codi-jax VERB`: plan, train, generate, evaluate, report; package models; convert and export public checkpoints.

A run is a config and a workdir. `train` takes --config=FILE[:argument] and overrides --config.a.b=value (flags of
ml_collections) and saves the resolved config in the workdir; the other verbs need only the workdir. `generate` without
a workdir uses the packaged model.

Exit codes: 0 success; 1 evaluated, with results below the floors of the config; 2 invalid input, a full disk, or a
directory that cannot be written (the error is one line); 69 the processes of a distributed run (see
`codi_jax.parallel.distributed`) could not connect; 75 stopped by SIGTERM with everything saved, run it again.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from codi_jax import storage
from codi_jax.config import ConfigError

EXIT_BELOW_FLOORS = 1
EXIT_BAD_INPUT = 2
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: not finished, run it again


def _refuse(error: Exception | str) -> NoReturn:
    """Prints the error as one line and exits with `EXIT_BAD_INPUT`."""
    from codi_jax.parallel import distributed

    print(f"codi-jax: {error}", file=sys.stderr)
    distributed.exit_process(EXIT_BAD_INPUT)


def _end_on(verdict: Any) -> None:
    """Prints the verdict of an evaluation, if there is one, and exits if the model is below its floors."""
    from codi_jax.parallel import distributed

    if verdict is not None:
        print(f"\n{verdict}", flush=True)
        if not verdict.passed:
            distributed.exit_process(EXIT_BELOW_FLOORS)


def _directory(argument: str) -> Path:
    """Parses an argument that names a directory, on a local disk or in an object store."""
    try:
        return storage.check_access(argument)
    except ConfigError as error:  # argparse would print its usage, too
        _refuse(error)


def read_config(arguments: Sequence[str]) -> Any:
    """The ConfigDict of --config and its overrides, parsed by ml_collections in a separate flag set.

    Raises:
      ConfigError: --config is missing or invalid, an override is invalid, or there are other arguments.
    """
    from absl import flags
    from ml_collections import config_flags

    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values, sys_argv=["codi-jax", *arguments])
    try:
        rest = values(["codi-jax", *arguments])[1:]
        config = values.config
        hasattr(config, "items")  # an error while loading the file is raised on first access
    except ConfigError:
        raise
    except (flags.Error, OSError, KeyError, AttributeError, TypeError, ValueError, SyntaxError, ImportError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ConfigError(f"--config: {lines[0]} {lines[-1] if len(lines) > 1 else ''}".strip()) from error
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    if config is None:
        raise ConfigError("train needs --config=FILE[:argument] in a workdir that holds no config yet")
    return config


def _train(args: argparse.Namespace, rest: list[str], objective: str | None = None) -> None:
    """Trains the stages named by --stage, or all stages of an objective."""
    from codi_jax.parallel import distributed
    from codi_jax.parallel.host import keep_freed_memory
    from codi_jax.train.jobs import train_side_by_side
    from codi_jax.train.profile import parse
    from codi_jax.train.recipe import load_run, open_run, save_config
    from codi_jax.train.reuse import reuse
    from codi_jax.train.trainer import train

    if args.jobs < 1:
        raise ConfigError(f"--jobs: expected a positive number, got {args.jobs}")
    profile = None if args.profile is None else parse(args.profile)
    if profile and args.jobs > 1:
        raise ConfigError(f"--profile: parallel stages (--jobs={args.jobs}) would distort the trace; leave --jobs out")
    processes = distributed.requested()
    if processes is not None and args.jobs > 1:
        raise ConfigError(f"--jobs={args.jobs}: parallel stages are not supported in a distributed run")
    keep_freed_memory()

    config = None
    if any(a.startswith("--config") for a in rest) or not (args.workdir / "config.json").exists():
        config = read_config(rest)
        run = open_run(config, args.workdir)
        save_config(config, args.workdir, write=False)
    else:
        if rest:
            raise ConfigError(f"unknown arguments: {' '.join(rest)}")
        run = load_run(args.workdir)
    distributed.start(processes)  # every process has validated the config before
    if distributed.is_primary():
        if config is not None:
            save_config(config, args.workdir)
        for name in reuse(run, args.reuse) if args.reuse else ():
            print(f"{name}  from {args.reuse}", flush=True)
    distributed.wait_for_all("config saved")
    if not (args.workdir / "config.json").exists():
        raise ConfigError(f"{args.workdir} is not the same directory for all processes; it has to be on a shared disk")
    stages = tuple(args.stage) or None
    if objective is not None:
        stages = tuple(name for name in run.order if run.stage(name).objective == objective)
        if not stages:
            raise ConfigError(f"no stage of this recipe has the objective {objective!r}")
    if args.jobs > 1:
        train_side_by_side(run, stages, args.jobs, args.quiet)
    else:
        train(run, stages, args.quiet, profile)


def _run_of(args: argparse.Namespace, rest: list[str]) -> Any:
    """The run of --workdir, or of --config without a workdir."""
    from codi_jax.train.recipe import load_run, open_run

    if any(a.startswith("--config") for a in rest):
        if args.workdir is not None:
            raise ConfigError("--workdir and --config: use only one of them; a workdir has its config")
        return open_run(read_config(rest), None)
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    if args.workdir is None:
        raise ConfigError("needs --workdir=DIRECTORY of a run, or --config=FILE[:argument]")
    return load_run(args.workdir)


def _plan(args: argparse.Namespace, rest: list[str]) -> None:
    import json

    from codi_jax.parallel import MeshConfig
    from codi_jax.plan import target
    from codi_jax.plan.run import plan, shown
    from codi_jax.progress import ProgressLines

    if args.topology and args.devices is not None:
        raise ConfigError("--topology and --devices: use only one of them")
    # Before anything else, since it selects the backend that jax initializes.
    if args.topology:
        where = target.tpu(args.topology)
    else:
        where = target.present() if args.devices is None else target.virtual(args.devices)
    run = _run_of(args, rest)
    mesh = MeshConfig.parse(args.mesh) if args.mesh else run.config.mesh
    rows = plan(run, tuple(args.stage), where, mesh, args.batch, args.sweep, args.cache, progress=ProgressLines())
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        storage.write_text(args.json, json.dumps(rows, indent=1) + "\n")
    print(shown(rows))


def _convert(args: argparse.Namespace, rest: list[str]) -> None:
    from codi_jax.interop.convert import convert
    from codi_jax.parallel.host import return_freed_memory

    return_freed_memory()
    print(convert(_run_of(args, rest).codi, args.files, args.out, args.seed))


def _export(args: argparse.Namespace, rest: list[str]) -> None:
    from codi_jax.interop.export import export
    from codi_jax.parallel.host import return_freed_memory

    return_freed_memory()
    run = _run_of(args, rest)
    print(export(run.codi, run.component_sources(run.finished_stages()), args.out))


def _package(args: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    from codi_jax import packaged
    from codi_jax.train.card import About
    from codi_jax.train.package import package
    from codi_jax.train.recipe import load_run

    run = None if args.workdir is None else load_run(args.workdir)
    about = About(args.trained_with, args.judges_trained_with, args.commit)
    judging = packaged.open_package(str(args.judges)) if packaged.is_package(args.judges) else load_run(args.judges)
    print(package(run, judging, args.out, args.dtype, about))


def _model(args: argparse.Namespace, rest: list[str]) -> tuple[Any, Any, Any]:
    """The model for generation, its `config.generate`, and a function that returns a reader of components."""
    if args.workdir is not None or any(a.startswith("--config") for a in rest):
        if args.model is not None:
            raise ConfigError("--model names a packaged model; leave out --workdir and --config")
        from codi_jax.train.variables import component_reader

        run = _run_of(args, rest)
        return run.codi, run.config.generate, functools.partial(component_reader, run, args.random_weights)
    from codi_jax import __version__, packaged

    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    if args.random_weights:
        raise ConfigError("--random-weights: a packaged model has all its weights; see --config")
    package = packaged.open_package(args.model or packaged.DEFAULT)
    codi = package.codi
    by = f", packaged with codi_jax {__version__}" if package.name in packaged.MODELS else ""
    print(f"model: {package.name}{by}", file=sys.stderr, flush=True)

    def reader(wanted: Iterable[str]) -> Any:
        package.read("model", wanted)  # a damaged file is reported before anything is compiled
        return lambda components: package.read("model", components, codi.config.dtype)

    return codi, package.run["generate"], reader


def _user_folder() -> Path | None:
    """The user's cache directory for programs compiled without a workdir; None if it cannot be written."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "codi_jax"
        (folder / "compiled").mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # not writable, or no home directory
        return None
    return folder if os.access(folder / "compiled", os.W_OK) else None


def _generate(args: argparse.Namespace, rest: list[str]) -> None:
    import jax

    from codi_jax.config import from_dict
    from codi_jax.pipeline import Generator, PromptWarning, save
    from codi_jax.progress import ProgressLines
    from codi_jax.sampling.config import GenerateConfig

    codi, settings, reader = _model(args, rest)
    prompts, weights = {}, {}
    for name, given in args.prompts.items():
        if len(given) > 1:
            raise ConfigError(f"--{name} is given {len(given)} times; use one prompt per modality")
        if given:
            prompts[name] = [codi[name].read(given[0])]
            if unknown := codi[name].unknown(prompts[name]):
                print(f"codi-jax: {unknown}", file=sys.stderr)
    for part in filter(None, args.weights.split(",")):
        name, _, value = part.partition("=")
        try:
            weights[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"--weights: expected NAME=NUMBER, got {part!r}") from error
        if name not in prompts:
            raise ConfigError(f"--weights: {name!r} has no prompt; prompts: {', '.join(prompts) or 'none'}")
    if args.n < 1:
        raise ConfigError(f"--n: expected a positive number, got {args.n}")
    outputs = codi.order(filter(None, args.to.split(",")))
    generator = Generator(codi, from_dict(GenerateConfig, settings, "generate"))
    encoders, sampled, decoders = generator.components(outputs, prompts)
    wanted = itertools.chain(*encoders.values(), sampled, *decoders.values())
    read = reader(wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptWarning)  # printed above
        progress = ProgressLines()
        values = generator.generate(
            read, outputs, prompts, args.n, jax.random.key(args.seed), weights, progress=progress
        )
    for path in save(codi, values, args.out):
        print(path)


def _evaluate(args: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    from ml_collections import ConfigDict

    from codi_jax.evaluate.run import evaluate, make_verdict, table
    from codi_jax.packaged import open_package
    from codi_jax.parallel.host import keep_freed_memory
    from codi_jax.train.recipe import load_run, open_run, save_config
    from codi_jax.train.variables import variables_of

    if args.model is None:
        run = load_run(args.workdir)
        variables = variables_of(run)
    else:
        package = open_package(args.model)
        run = open_run(package.run, args.workdir)
        variables = package.read("model")
        save_config(ConfigDict(package.run), args.workdir)
    config = run.config
    if args.judges:
        config = dataclasses.replace(config, evaluate={**config.evaluate, "judges": args.judges})
    keep_freed_memory()
    metrics = evaluate(run.codi, config, variables, run.folder)
    print(table(metrics))
    _end_on(make_verdict(metrics, config))


def _report(args: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    from codi_jax.report.page import write

    print(write(args.workdir))


def _demo(args: argparse.Namespace, rest: list[str]) -> None:
    from codi_jax.demo.verb import demo

    alone = {"stage": (), "quiet": True, "profile": None}
    train = lambda: _train(argparse.Namespace(**vars(args), **alone), rest)  # noqa: E731
    _end_on(demo(args, read_config(rest) if rest else None, train))


def _compare(args: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    from codi_jax.evaluate.compare import read, table

    print(table({str(workdir): read(workdir) for workdir in args.workdirs}))


def _data(args: argparse.Namespace, rest: list[str]) -> None:
    from codi_jax.data.inspection import inspect
    from codi_jax.progress import ProgressLines

    if args.what == "encode":
        if args.workdir is None:
            raise ConfigError("data encode needs --workdir=DIRECTORY with the stages that it depends on finished")
        alone = {"stage": (), "jobs": 1, "quiet": True, "profile": None, "reuse": None}
        return _train(argparse.Namespace(workdir=args.workdir, **alone), rest, "encode")
    run = _run_of(args, rest)
    names = args.source or list(run.config.sources)
    if unknown := [name for name in names if name not in run.config.sources]:
        raise ConfigError(f"no source {unknown[0]!r} in this config; it has {', '.join(run.config.sources)}")
    for name in names:
        out = args.out / name if args.out else None
        print(f"{name}: {inspect(run.config.sources[name], f'sources.{name}', args.n, out, ProgressLines())}")


def _world(args: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    from codi_jax.data.digit_world import sheet

    for path in sheet.write(args.out, args.split, args.n, args.seed):
        print(path)


_VERBS = {
    "train": _train,
    "plan": _plan,
    "generate": _generate,
    "convert": _convert,
    "export": _export,
    "package": _package,
    "evaluate": _evaluate,
    "report": _report,
    "demo": _demo,
    "compare": _compare,
    "data": _data,
    "world": _world,
}


def _explained(error: Exception, args: argparse.Namespace) -> str | None:
    """One line about a full disk or a directory that cannot be written; None for other errors."""
    return storage.explain(error, getattr(args, "out", None) or getattr(args, "workdir", None))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    # numpy runs in data loading threads next to XLA, so BLAS threads would compete for the same cores. It is read when
    # numpy is first imported; a value set by the user is kept.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from codi_jax.arguments import make_parser
    from codi_jax.modalities import REGISTRY

    args, rest = make_parser(_VERBS, _directory).parse_known_args(arguments)
    args.prompts = {name: getattr(args, name, []) for name in REGISTRY}
    import jax

    from codi_jax.parallel import distributed
    from codi_jax.parallel.host import keep_programs, prepare_process

    prepare_process()
    # `plan` has its own cache: programs compiled for other hardware cannot be reused.
    workdir = getattr(args, "workdir", None) if args.verb != "plan" else None
    if workdir is None and args.verb == "generate":
        workdir = _user_folder()
    if workdir is not None:
        keep_programs(workdir)
    try:
        args.function(args, rest)
    except ConfigError as error:
        _refuse(error)
    except KeyboardInterrupt:
        print("codi-jax: interrupted; run the same command to resume from the last checkpoint", file=sys.stderr)
        distributed.exit_process(130)
    except Exception as error:
        # Imported here, so that verbs which do not train do not import Orbax.
        from codi_jax.checkpoint import CheckpointError
        from codi_jax.train.stop import Preempted

        if line := _explained(error, args):
            _refuse(line)
        if isinstance(error, CheckpointError):
            _refuse(error)
        if isinstance(error, Preempted):
            if distributed.is_primary():
                print(f"codi-jax: {error}", file=sys.stderr)
            distributed.exit_process(EXIT_PREEMPTED)
        # In a distributed run an exiting process would wait for the others and then abort.
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        distributed.exit_process(1)


if __name__ == "__main__":
    main()
