"""`codi-jax VERB`: plan, train, generate, evaluate, report; convert and export public checkpoints.

A run is a config and a workdir. `train` takes --config=FILE[:argument] and overrides --config.a.b=value (flags of
ml_collections, private to the verb) and saves the resolved config in the workdir; the other verbs need only that.

Exit codes: 0 done; 2 bad input, a full disk, or a directory that may not be written (one line says what); 75 stopped by
SIGTERM with everything saved, run it again; 69 the processes that the environment tells of (see
`codi_jax.parallel.distributed`) have not come together.
"""

import argparse
import itertools
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from codi_jax import storage
from codi_jax.config import ConfigError

EXIT_BAD_INPUT = 2
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: not finished, come back


def _refuse(error: Exception | str) -> NoReturn:
    from codi_jax.parallel import distributed

    print(f"codi-jax: {error}", file=sys.stderr)
    distributed.leave(EXIT_BAD_INPUT)


def _directory(argument: str) -> Path:
    """An argument that names a directory, here or in an object store."""
    try:
        return storage.reachable(argument)
    except ConfigError as error:  # which argparse would show with its usage
        _refuse(error)


def _read_config(arguments: Sequence[str]) -> Any:
    """The ConfigDict of --config and its overrides, by ml_collections' flags in a flag set of their own."""
    from absl import flags
    from ml_collections import config_flags

    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values, sys_argv=["codi-jax", *arguments])
    try:
        rest = values(["codi-jax", *arguments])[1:]
        config = values.config
        hasattr(config, "items")  # a file that could not be loaded is an error only when it is looked at
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
    """Trains the stages that are asked for, or those of an objective."""
    from codi_jax.parallel import distributed
    from codi_jax.parallel.host import keep_freed_memory
    from codi_jax.train.jobs import train_side_by_side
    from codi_jax.train.loop import train
    from codi_jax.train.profile import parse
    from codi_jax.train.recipe import load_run, open_run, save_config
    from codi_jax.train.reuse import reuse

    if args.jobs < 1:
        raise ConfigError(f"--jobs: expected a positive number, got {args.jobs}")
    profile = None if args.profile is None else parse(args.profile)
    if profile and args.jobs > 1:
        raise ConfigError(
            f"--profile: beside other stages (--jobs={args.jobs}) a stage is not itself; leave --jobs out"
        )
    processes = distributed.requested()
    if processes is not None and args.jobs > 1:
        raise ConfigError(f"--jobs={args.jobs}: stages run side by side in a run of one process only")
    keep_freed_memory()

    config = None
    if any(a.startswith("--config") for a in rest) or not (args.workdir / "config.json").exists():
        config = _read_config(rest)
        run = open_run(config, args.workdir)
        save_config(config, args.workdir, write=False)
    else:
        if rest:
            raise ConfigError(f"unknown arguments: {' '.join(rest)}")
        run = load_run(args.workdir)
    distributed.start(processes)  # what is wrong with the config, each process has said for itself by now
    if distributed.first():
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
    """The run of a workdir, or of a config that has none."""
    from codi_jax.train.recipe import load_run, open_run

    if any(a.startswith("--config") for a in rest):
        if args.workdir is not None:
            raise ConfigError("--workdir and --config: name one of them; a workdir has its config")
        return open_run(_read_config(rest), None)
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

    if args.topology and args.devices is not None:
        raise ConfigError("--topology and --devices: name one of them")
    # First, since it decides what jax starts.
    if args.topology:
        where = target.tpu(args.topology)
    else:
        where = target.present() if args.devices is None else target.virtual(args.devices)
    run = _run_of(args, rest)
    mesh = MeshConfig.parse(args.mesh) if args.mesh else run.config.mesh
    rows = plan(run, tuple(args.stage), where, mesh, args.batch, args.sweep, args.cache, told=_Telling())
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
    print(export(run.codi, run.providers(run.finished_stages()), args.out))


class _Telling:
    """Says on stderr what generation is at, how long it has taken and how long its steps will take."""

    def __init__(self) -> None:
        self._begun = self._printed = time.perf_counter()
        self._first: tuple[float, int] | None = None

    def __call__(self, what: str, done: int = 0, of: int = 0) -> None:
        from codi_jax.train.metrics import duration

        now, left = time.perf_counter(), ""
        if of and done:  # the first step compiles; the rate is that of those after it
            if self._first is not None:
                left = f", {duration((now - self._first[0]) / (done - self._first[1]) * (of - done))} left"
            self._first = self._first or (now, done)
        if not done or now - self._printed >= 1:
            self._printed = now
            steps = f" {done}/{of}{left}" if of else ""
            print(f"{duration(now - self._begun):>6}  {what}{steps}", file=sys.stderr, flush=True)


def _generate(args: argparse.Namespace, rest: list[str]) -> None:
    import jax

    from codi_jax.config import view
    from codi_jax.generate import GenerateConfig, Generator, save
    from codi_jax.train.variables import component_reader

    run = _run_of(args, rest)
    prompts, weights = {}, {}
    for name, given in args.prompts.items():
        if len(given) > 1:
            raise ConfigError(f"--{name} is given {len(given)} times; a modality can prompt once")
        if given:
            prompts[name] = [run.codi[name].read(given[0])]
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
    outputs = run.codi.order(filter(None, args.to.split(",")))
    generator = Generator(run.codi, view(GenerateConfig, run.config.generate, "generate"))
    encoders, sampled, decoders = generator.components(outputs, prompts)
    wanted = itertools.chain(*encoders.values(), sampled, *decoders.values())
    read = component_reader(run, args.random_weights, wanted)
    values = generator.generate(read, outputs, prompts, args.n, jax.random.key(args.seed), weights, told=_Telling())
    for path in save(run.codi, values, args.out):
        print(path)


def _evaluate(args: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    from codi_jax.evaluate.run import evaluate, table
    from codi_jax.parallel.host import keep_freed_memory
    from codi_jax.train.recipe import load_run
    from codi_jax.train.variables import variables_of

    run = load_run(args.workdir)
    keep_freed_memory()
    print(table(evaluate(run.codi, run.config, variables_of(run, judged=True), run.workdir)))


def _report(args: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    from codi_jax.report.page import write

    print(write(args.workdir))


def _compare(args: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    from codi_jax.evaluate.compare import read, table

    print(table({str(workdir): read(workdir) for workdir in args.workdirs}))


def _data(args: argparse.Namespace, rest: list[str]) -> None:
    from codi_jax.data.inspection import inspect

    if args.what == "encode":
        if args.workdir is None:
            raise ConfigError("data encode needs --workdir=DIRECTORY, where the stages before are finished")
        alone = {"stage": (), "jobs": 1, "quiet": True, "profile": None, "reuse": None}
        return _train(argparse.Namespace(workdir=args.workdir, **alone), rest, "encode")
    run = _run_of(args, rest)
    names = args.source or list(run.config.sources)
    if unknown := [name for name in names if name not in run.config.sources]:
        raise ConfigError(f"no source {unknown[0]!r} in this config; it has {', '.join(run.config.sources)}")
    for name in names:
        out = args.out / name if args.out else None
        print(f"{name}: {inspect(run.config.sources[name], f'sources.{name}', args.n, out, _Telling())}")


def _world(args: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")
    from codi_jax.data.digit_world import sheet

    for path in sheet.write(args.out, args.split, args.n, args.seed):
        print(path)


def _parser() -> argparse.ArgumentParser:
    from codi_jax.modalities import REGISTRY

    parser = argparse.ArgumentParser(
        prog="codi-jax", description="CoDi in JAX: plan, train, generate, evaluate, report."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str, function: Any, help: str, workdir: bool = True, config: bool = False, **options: Any
    ) -> argparse.ArgumentParser:
        if config:
            options["epilog"] = (
                "In place of a workdir, --config=FILE[:argument] names a config, and --config.a.b=value overrides a "
                "field of it."
            )
        sub = verbs.add_parser(name, help=help, description=help, allow_abbrev=False, **options)
        sub.set_defaults(function=function)
        if workdir:
            sub.add_argument(
                "--workdir",
                type=_directory,
                required=not config,
                help="directory of the run, here or on gs:// or s3://",
            )
        return sub

    train = verb(
        "train",
        _train,
        "run a recipe, or some of its stages; what is finished is left alone, what was interrupted goes on",
        epilog="--config=FILE[:argument] names the config and --config.a.b=value overrides a field of it; both are "
        "saved in the workdir, so that a later call needs the workdir alone.",
    )
    train.add_argument("--stage", action="append", default=[], metavar="NAME", help="only this stage (repeatable)")
    train.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="independent stages side by side, in N processes (1)"
    )
    train.add_argument(
        "--reuse",
        type=_directory,
        metavar="WORKDIR",
        help="take over the finished stages of another run that are defined as here, and what they build on, too",
    )
    train.add_argument(
        "--profile", metavar="START,STEPS", help="record so many steps of each stage, from the START-th on, for xprof"
    )
    train.add_argument("--quiet", action="store_true", help="do not print the table of trained and frozen parameters")

    plan = verb(
        "plan", _plan, "compile stages for hardware that need not be here: memory, traffic, bounds, cost", config=True
    )
    plan.add_argument("--stage", action="append", default=[], metavar="NAME", help="only this stage (repeatable)")
    plan.add_argument(
        "--topology", metavar="NAME", help="a TPU slice, such as v5e:4x4 or v5p:4x4x4; needs codi_jax[plan], no TPU"
    )
    plan.add_argument(
        "--devices", type=int, metavar="N", help="N virtual CPU devices (by default, the devices of this machine)"
    )
    plan.add_argument(
        "--mesh", metavar="A=n,B=n", help="in place of the config's, such as data=4,fsdp=64; -1 is what is left"
    )
    plan.add_argument("--batch", type=int, metavar="N", help="global batch, in place of each stage's own")
    plan.add_argument(
        "--sweep", action="store_true", help="estimate other meshes and batches, and compile the best three of all"
    )
    plan.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file, too")
    plan.add_argument(
        "--cache", type=Path, metavar="DIRECTORY", help="keep rows here, and take what was compiled before from here"
    )

    generate = verb("generate", _generate, "any prompts in, any outputs out, generated together", config=True)
    for name in REGISTRY:
        generate.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="PROMPT",
            help=f"a prompt of modality {name}: its text or file",
        )
    generate.add_argument("--to", required=True, metavar="A,B", help="modalities to generate, separated by commas")
    generate.add_argument("--out", type=Path, required=True, help="directory for the files")
    generate.add_argument("--weights", default="", metavar="A=x,B=y", help="mix weights of the prompts (1 each)")
    generate.add_argument("--n", type=int, default=1, help="samples (1)")
    generate.add_argument(
        "--random-weights", action="store_true", help="draw what no weights are there for, to see the machinery run"
    )
    generate.add_argument("--seed", type=int, default=0, help="the same seed gives the same samples (0)")

    convert = verb("convert", _convert, "read public checkpoints into components of this model", config=True)
    convert.add_argument("files", type=Path, nargs="+", metavar="FILE", help="of the release, or of one other family")
    convert.add_argument(
        "--out", type=_directory, required=True, help="directory of the components; see config.weights"
    )
    convert.add_argument("--seed", type=int, default=0, help="of what the files do not hold (0)")

    export = verb("export", _export, "write the release's checkpoint files from components of this model", config=True)
    export.add_argument("--out", type=Path, required=True, help="directory for the .pth files")

    verb("evaluate", _evaluate, "measure a trained run: metrics.json, samples.npz, and a table")
    verb("report", _report, "write report.html from what train and evaluate left in the workdir")

    compare = verb("compare", _compare, "several evaluated runs, side by side", workdir=False)
    compare.add_argument(
        "workdirs", type=_directory, nargs="+", metavar="WORKDIR", help="directory of an evaluated run"
    )

    data = verb("data", _data, "look at what is inside the sources of a config, or encode them once", config=True)
    data.add_argument(
        "what",
        choices=("inspect", "encode"),
        help="inspect: decode some samples and say what they are; encode: run the stages that do so",
    )
    data.add_argument("--source", action="append", default=[], metavar="NAME", help="only this one (repeatable)")
    data.add_argument("--n", type=int, default=100, help="samples to decode, evenly over all of them (100)")
    data.add_argument("--out", type=Path, help="directory for a contact sheet of each")

    world = verb("world", _world, "look at and listen to samples of digit_world", workdir=False)
    world.add_argument("--out", type=Path, required=True, help="directory for sheet.png, captions, sounds and clips")
    world.add_argument("--split", default="train", help="train, judge, val or test (train)")
    world.add_argument("--n", type=int, default=12, help="samples (12)")
    world.add_argument("--seed", type=int, default=0, help="which world (0)")
    return parser


def _explained(error: Exception, args: argparse.Namespace) -> str | None:
    """One line about a full disk or a directory that may not be written; None where the error is another."""
    return storage.explain(error, getattr(args, "out", None) or getattr(args, "workdir", None))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    from codi_jax.modalities import REGISTRY

    args, rest = _parser().parse_known_args(arguments)
    args.prompts = {name: getattr(args, name, []) for name in REGISTRY}
    import jax

    from codi_jax.checkpoint import CheckpointError
    from codi_jax.parallel import distributed
    from codi_jax.parallel.host import keep_programs
    from codi_jax.train.stop import Preempted

    # A plan keeps rows instead: a program for a machine that is not here is of no use.
    if args.verb != "plan" and getattr(args, "workdir", None) is not None:
        keep_programs(args.workdir)
    try:
        args.function(args, rest)
    except ConfigError as error:
        _refuse(error)
    except CheckpointError as error:
        _refuse(_explained(error, args) or error)
    except Preempted as error:
        if distributed.first():
            print(f"codi-jax: {error}", file=sys.stderr)
        distributed.leave(EXIT_PREEMPTED)
    except KeyboardInterrupt:
        print("codi-jax: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        distributed.leave(130)
    except Exception as error:  # whatever: left alone, a process of several would wait for the others, and then abort
        if line := _explained(error, args):
            _refuse(line)
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        distributed.leave(1)


if __name__ == "__main__":
    main()
