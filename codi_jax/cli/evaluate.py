"""`codi-jax evaluate`."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codi_jax.cli import evaluate_samples, evaluate_suite
from codi_jax.cli.common import (
    add_workdir,
    directory,
    end_on,
    number,
    override,
    refuse_arguments,
    refuse_other_overrides,
    split_config,
)
from codi_jax.config import ConfigError

if TYPE_CHECKING:
    from codi_jax.digit_world.benchmark.settings import Scope
    from codi_jax.train.recipe import Run, RunConfig

HELP = "evaluate a trained run, a model on real data sets, or files of samples: metrics.json and a table"
OVERRIDABLE = ("generate", "evaluate")
PARTS = "real, codec, directions, combinations, held_out, mix, joint, pretrained"  # without importing the evaluation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser, required=False)
    parser.epilog = (
        "--config.generate.a=value and --config.evaluate.a=value override settings of generation and of the "
        "evaluation. What is not the whole evaluation of test samples with the config's settings is written to --out, "
        "not to the workdir. Choose settings with --split=val, whose samples and draws are others than those of the "
        "test; floors apply to test samples only."
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="evaluate a packaged model, a folder written by `package`, or hf://org/name; --out or --workdir is for "
        "the results",
    )
    parser.add_argument(
        "--judges",
        metavar="NAME",
        help="take the judges of a packaged model, a folder written by `package`, or hf://org/name, instead of the "
        "config's",
    )
    parser.add_argument(
        "--split",
        default="test",
        metavar="test|val",
        help="test samples, or the validation samples of config.evaluate.validation, to choose settings (test)",
    )
    parser.add_argument(
        "--seed", metavar="S", help="seed of the draws; that of the training does not change them (the config's: 0)"
    )
    parser.add_argument("--n", metavar="N", help="number of samples of every direction and set (the config's)")
    parser.add_argument(
        "--out", type=directory, help="folder for metrics.json, samples.npz and cost.json instead of the workdir"
    )
    parser.add_argument("--parts", metavar="A,B", help=f"measure only some of {PARTS} (all)")
    evaluate_samples.add_arguments(parser)
    evaluate_suite.add_arguments(parser)


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Prints the table and the verdict; exits with 1 below the floors."""
    if args.suite is not None:
        return evaluate_suite.run(args, rest)
    evaluate_suite.refuse_without_suite(args)
    if args.samples is not None:
        return evaluate_samples.run(args, rest)
    evaluate_samples.refuse_without_samples(args)
    overrides, others = split_config(rest)
    refuse_arguments(others)
    refuse_other_overrides(overrides, *OVERRIDABLE)
    from ml_collections import ConfigDict

    from codi_jax import storage
    from codi_jax.digit_world.benchmark.run import evaluate, make_verdict, table
    from codi_jax.digit_world.benchmark.settings import WHOLE, Scope, resolve, why_no_verdict
    from codi_jax.packaged import open_package
    from codi_jax.parallel.host import keep_freed_memory
    from codi_jax.train.recipe import load_run, open_run, save_config
    from codi_jax.train.variables import variables_of

    named = WHOLE.parts if args.parts is None else filter(None, map(str.strip, args.parts.split(",")))
    scope = Scope(args.split, tuple(named))
    out = _folder(args, scope, overrides)
    package = None if args.model is None else open_package(args.model)
    recipe = load_run(args.workdir) if package is None else open_run(package.run, args.workdir)
    config = _config(recipe, args, overrides)
    resolve(config, scope)  # what is wrong is said before weights are read
    storage.check_output(out)
    if package is not None and args.out is None:
        save_config(ConfigDict(package.run), args.workdir)
    variables = variables_of(recipe) if package is None else package.read("model")
    keep_freed_memory()
    metrics = evaluate(recipe.codi, config, variables, out, scope, args.workdir)
    print(table(metrics))
    if reason := why_no_verdict(metrics):
        print(f"\n{reason}", flush=True)
    end_on(make_verdict(metrics, config))


def _folder(args: argparse.Namespace, scope: "Scope", overrides: Sequence[str]) -> Path:
    """The folder for the results.

    Raises:
      ConfigError: it or the model is not named, or it is the workdir of a run, whose results are those of the whole
        evaluation of test samples with the settings of its config: reports and packages take them for that.
    """
    if args.model is None and args.workdir is None:
        raise ConfigError("needs --workdir=DIRECTORY of a run, or --model=NAME")
    if args.out is None:
        special = [f"--split={scope.split}"] if scope.split != "test" else []
        special += [] if scope.whole else [f"--parts={args.parts}"]
        if special := [*special, *overrides]:
            raise ConfigError(f"{special[0]} needs --out=DIRECTORY: a workdir has the whole evaluation of its config")
        if args.workdir is None:
            raise ConfigError("--model needs --out=DIRECTORY for the results")
        return args.workdir
    if args.model is not None and args.workdir is not None:
        raise ConfigError("--out and --workdir: with --model, use only one of them; both are for the results")
    if (args.out / "config.json").exists():
        raise ConfigError(f"--out: {args.out} is a workdir or a package (config.json); choose another folder")
    return args.out


def _config(recipe: "Run", args: argparse.Namespace, overrides: Sequence[str]) -> "RunConfig":
    """The config of the run with the settings of the arguments."""
    from codi_jax.config import from_dict, to_dict
    from codi_jax.digit_world.benchmark.settings import Overridable, with_n
    from codi_jax.sampling.config import GenerateConfig

    config = recipe.config
    texts = {name: text for name in ("n", "seed") if (text := getattr(args, name)) is not None}
    given = {name: number(f"--{name}", text, int) for name, text in texts.items()}
    for name in given:
        if any(argument.startswith(f"--config.evaluate.{name}=") for argument in overrides):
            raise ConfigError(f"--{name} and --config.evaluate.{name}: use only one of them")
    evaluate = dict(config.evaluate)
    if "n" in given:
        evaluate = with_n(evaluate, given["n"])
    if "seed" in given:
        evaluate["seed"] = given["seed"]
    if args.judges:
        evaluate["judges"] = args.judges
    if not overrides:
        return dataclasses.replace(config, evaluate=evaluate)
    generate = to_dict(config.generate.complete(recipe.codi.modalities))
    tree = override({"generate": generate, "evaluate": to_dict(evaluate)}, overrides, Overridable)
    generate = from_dict(GenerateConfig, tree["generate"], "generate")
    return dataclasses.replace(config, generate=generate, evaluate=tree["evaluate"])
