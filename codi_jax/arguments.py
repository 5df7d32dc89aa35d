"""The argument parser of `codi-jax`: its verbs and their options."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codi_jax.modalities import REGISTRY


def make_parser(
    functions: Mapping[str, Callable[..., None]], directory: Callable[[str], Path]
) -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Args:
      functions: verb -> its function, which becomes `function` of the parsed arguments.
      directory: parses an argument that names a directory, on a local disk or in an object store.
    """
    parser = argparse.ArgumentParser(
        prog="codi-jax", description="CoDi in JAX: plan, train, generate, evaluate, report."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str, help: str, workdir: bool = True, config: bool = False, **options: Any
    ) -> argparse.ArgumentParser:
        if config:
            options["epilog"] = (
                "In place of a workdir, --config=FILE[:argument] names a config, and --config.a.b=value overrides a "
                "field of it."
            )
        sub = verbs.add_parser(name, help=help, description=help, allow_abbrev=False, **options)
        sub.set_defaults(function=functions[name])
        if workdir:
            sub.add_argument(
                "--workdir",
                type=directory,
                required=not config,
                help="directory of the run, a local path or gs://… or s3://…",
            )
        return sub

    train = verb(
        "train",
        "run a recipe, or some of its stages; finished stages are skipped, interrupted ones resume",
        epilog="--config=FILE[:argument] names the config and --config.a.b=value overrides a field of it; the result "
        "is saved in the workdir, so that later calls need only the workdir.",
    )
    train.add_argument("--stage", action="append", default=[], metavar="NAME", help="only this stage (repeatable)")
    train.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="train independent stages in parallel, in N processes (1)"
    )
    train.add_argument(
        "--reuse",
        type=directory,
        metavar="WORKDIR",
        help="copy the finished stages of another run whose definitions, dependencies included, are the same here",
    )
    train.add_argument(
        "--profile",
        metavar="START,STEPS",
        help="trace STEPS steps of each stage for xprof, from step START of the session on",
    )
    train.add_argument("--quiet", action="store_true", help="do not print the table of trained and frozen parameters")

    plan = verb(
        "plan", "compile stages for hardware that need not be present: memory, traffic, bounds, cost", config=True
    )
    plan.add_argument("--stage", action="append", default=[], metavar="NAME", help="only this stage (repeatable)")
    plan.add_argument(
        "--topology", metavar="NAME", help="a TPU slice, such as v5e:4x4 or v5p:4x4x4; needs codi_jax[plan], no TPU"
    )
    plan.add_argument(
        "--devices", type=int, metavar="N", help="N virtual CPU devices (by default, the devices of this machine)"
    )
    plan.add_argument(
        "--mesh",
        metavar="A=n,B=n",
        help="mesh instead of the config's, such as data=4,fsdp=64; -1 takes the remaining devices",
    )
    plan.add_argument("--batch", type=int, metavar="N", help="global batch size instead of each stage's")
    plan.add_argument(
        "--sweep",
        action="store_true",
        help="estimate other meshes and batch sizes, and compile the best three in total",
    )
    plan.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    plan.add_argument("--cache", type=Path, metavar="DIRECTORY", help="cache of compiled rows")

    generate = verb(
        "generate",
        "generate any outputs jointly from any prompts; with the packaged model unless a run is named",
        config=True,
    )
    generate.add_argument(
        "--model", metavar="NAME", help="a packaged model, or a folder written by `package` (digit_world)"
    )
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
    generate.add_argument("--n", type=int, default=1, help="number of samples (1)")
    generate.add_argument("--random-weights", action="store_true", help="initialize components that have no weights")
    generate.add_argument("--seed", type=int, default=0, help="the same seed gives the same samples (0)")

    convert = verb("convert", "convert public checkpoints to components of this model", config=True)
    convert.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="files of the release, or of one other checkpoint family"
    )
    convert.add_argument("--out", type=directory, required=True, help="directory of the components; see config.weights")
    convert.add_argument("--seed", type=int, default=0, help="seed for parameters that the files do not hold (0)")

    export = verb("export", "write the release's checkpoint files from components of this model", config=True)
    export.add_argument("--out", type=Path, required=True, help="directory for the .pth files")

    package = verb(
        "package",
        "write finished runs as a packaged model: safetensors, config.json, card.json, card.md",
        workdir=False,
    )
    package.add_argument("--workdir", type=directory, help="run of the model; without it only judges are packaged")
    package.add_argument(
        "--judges",
        type=directory,
        required=True,
        help="run of the judges and similarity towers, or a package that has them",
    )
    package.add_argument("--out", type=Path, required=True, help="directory for the files")
    package.add_argument(
        "--dtype", default="float16", help="dtype of the parameters: float16, bfloat16 or float32 (float16)"
    )
    for option, whose in (("--trained-with", "the model"), ("--judges-trained-with", "the judges")):
        package.add_argument(option, default="", metavar="FILE:ARGUMENT", help=f"--config of {whose}, for the card")
    package.add_argument(
        "--commit", default="", help="commit of the code that trained them, for the card (that of the checkout)"
    )

    evaluate = verb("evaluate", "evaluate a trained run: metrics.json, samples.npz, and a table")
    evaluate.add_argument(
        "--model",
        metavar="NAME",
        help="evaluate a packaged model, or a folder written by `package`; the workdir is for the results",
    )
    evaluate.add_argument(
        "--judges",
        metavar="NAME",
        help="take the judges of a packaged model, or of a folder written by `package`, instead of the config's",
    )
    verb("report", "write report.html from the results of train and evaluate in the workdir")

    demo = verb(
        "demo",
        "write a page of samples of the packaged model; then train and evaluate your own model",
        workdir=False,
        epilog="--config=FILE[:argument] names the config to train, as for `train`; without it only the page is "
        "written. An interrupted demo resumes. Exit code 1 means that the model is below the floors of the config.",
    )
    demo.add_argument(
        "--out", dest="workdir", type=directory, required=True, help="directory of the page and of the run"
    )
    demo.add_argument("--jobs", type=int, default=1, metavar="N", help="as for `train` (1)")
    demo.add_argument("--reuse", type=directory, metavar="WORKDIR", help="as for `train`")
    demo.add_argument(
        "--no-page",
        dest="page",
        action="store_false",
        help="only train and evaluate, without the page of the packaged model",
    )
    demo.add_argument(
        "--model", metavar="NAME", help="model of the page: a packaged model, or a folder written by `package`"
    )

    compare = verb("compare", "compare several evaluated runs in one table", workdir=False)
    compare.add_argument("workdirs", type=directory, nargs="+", metavar="WORKDIR", help="directory of an evaluated run")

    data = verb("data", "inspect the sources of a config, or encode them once", config=True)
    data.add_argument(
        "what",
        choices=("inspect", "encode"),
        help="inspect: decode and describe some samples; encode: run the encode stages",
    )
    data.add_argument("--source", action="append", default=[], metavar="NAME", help="only this source (repeatable)")
    data.add_argument(
        "--n", type=int, default=100, help="number of samples to decode, spread evenly over the source (100)"
    )
    data.add_argument("--out", type=Path, help="directory for a contact sheet of each source")

    world = verb("world", "write samples of digit_world to look at and listen to", workdir=False)
    world.add_argument("--out", type=Path, required=True, help="directory for sheet.png, captions, audio and videos")
    world.add_argument("--split", default="train", help="train, judge, val or test (train)")
    world.add_argument("--n", type=int, default=12, help="number of samples (12)")
    world.add_argument("--seed", type=int, default=0, help="seed of the world (0)")
    return parser
