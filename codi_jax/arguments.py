"""What `codi-jax` takes: its verbs and their options."""

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
      functions: verb -> what carries it out; it stands in the result's `function`.
      directory: an argument that names a directory, of this machine or of a store, to its path.
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
                help="directory of the run, here or on gs:// or s3://",
            )
        return sub

    train = verb(
        "train",
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
        type=directory,
        metavar="WORKDIR",
        help="take over the finished stages of another run that are defined as here, and what they build on, too",
    )
    train.add_argument(
        "--profile", metavar="START,STEPS", help="record so many steps of each stage, from the START-th on, for xprof"
    )
    train.add_argument("--quiet", action="store_true", help="do not print the table of trained and frozen parameters")

    plan = verb("plan", "compile stages for hardware that need not be here: memory, traffic, bounds, cost", config=True)
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

    generate = verb(
        "generate",
        "any prompts in, any outputs out, generated together; by the model inside the package unless a run is named",
        config=True,
    )
    generate.add_argument(
        "--model", metavar="NAME", help="a model inside the package, or a folder that `package` wrote (digit_world)"
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
    generate.add_argument("--n", type=int, default=1, help="samples (1)")
    generate.add_argument(
        "--random-weights", action="store_true", help="draw what no weights are there for, to see the machinery run"
    )
    generate.add_argument("--seed", type=int, default=0, help="the same seed gives the same samples (0)")

    convert = verb("convert", "read public checkpoints into components of this model", config=True)
    convert.add_argument("files", type=Path, nargs="+", metavar="FILE", help="of the release, or of one other family")
    convert.add_argument("--out", type=directory, required=True, help="directory of the components; see config.weights")
    convert.add_argument("--seed", type=int, default=0, help="of what the files do not hold (0)")

    export = verb("export", "write the release's checkpoint files from components of this model", config=True)
    export.add_argument("--out", type=Path, required=True, help="directory for the .pth files")

    package = verb(
        "package",
        "write finished runs as a packaged model: safetensors, config.json, card.json, card.md",
        workdir=False,
    )
    package.add_argument("--workdir", type=directory, help="run of the model; left out, judges alone are packaged")
    package.add_argument(
        "--judges",
        type=directory,
        required=True,
        help="run of the judges and similarity towers, or the package that has them",
    )
    package.add_argument("--out", type=Path, required=True, help="directory for the files")
    package.add_argument("--dtype", default="float16", help="of the parameters: float16, bfloat16 or float32 (float16)")
    for option, whose in (("--trained-with", "the model"), ("--judges-trained-with", "the judges")):
        package.add_argument(option, default="", metavar="FILE:ARGUMENT", help=f"--config of {whose}, for the card")
    package.add_argument("--commit", default="", help="of the code that trained them, for the card (the checkout's)")

    evaluate = verb("evaluate", "measure a trained run: metrics.json, samples.npz, and a table")
    evaluate.add_argument(
        "--model",
        metavar="NAME",
        help="a packaged model in place of the run's, or a folder that `package` wrote; the workdir is for the results",
    )
    evaluate.add_argument(
        "--judges",
        metavar="NAME",
        help="whose judges read, in place of the config's: a packaged model, or a folder that `package` wrote",
    )
    verb("report", "write report.html from what train and evaluate left in the workdir")

    demo = verb(
        "demo",
        "a page of samples that the packaged model generates now; then a model of your own, trained, measured, judged",
        workdir=False,
        epilog="--config=FILE[:argument] names what is trained, as for `train`; without it there is the page alone. "
        "Interrupted and run again it goes on. It exits with 1 if what was trained is below the config's floors.",
    )
    demo.add_argument(
        "--out", dest="workdir", type=directory, required=True, help="directory of the page and of the run"
    )
    demo.add_argument("--jobs", type=int, default=1, metavar="N", help="as for `train` (1)")
    demo.add_argument("--reuse", type=directory, metavar="WORKDIR", help="as for `train`")
    demo.add_argument(
        "--no-page", dest="page", action="store_false", help="train and measure only, without the packaged model's page"
    )
    demo.add_argument("--model", metavar="NAME", help="of the page: a packaged model, or a folder that `package` wrote")

    compare = verb("compare", "several evaluated runs, side by side", workdir=False)
    compare.add_argument("workdirs", type=directory, nargs="+", metavar="WORKDIR", help="directory of an evaluated run")

    data = verb("data", "look at what is inside the sources of a config, or encode them once", config=True)
    data.add_argument(
        "what",
        choices=("inspect", "encode"),
        help="inspect: decode some samples and say what they are; encode: run the stages that do so",
    )
    data.add_argument("--source", action="append", default=[], metavar="NAME", help="only this one (repeatable)")
    data.add_argument("--n", type=int, default=100, help="samples to decode, evenly over all of them (100)")
    data.add_argument("--out", type=Path, help="directory for a contact sheet of each")

    world = verb("world", "look at and listen to samples of digit_world", workdir=False)
    world.add_argument("--out", type=Path, required=True, help="directory for sheet.png, captions, sounds and clips")
    world.add_argument("--split", default="train", help="train, judge, val or test (train)")
    world.add_argument("--n", type=int, default=12, help="samples (12)")
    world.add_argument("--seed", type=int, default=0, help="which world (0)")
    return parser
