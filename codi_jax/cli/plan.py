"""`codi-jax plan`."""

import argparse
from collections.abc import Sequence

from codi_jax import storage
from codi_jax.cli.common import add_workdir, local_path, print_choices, run_of
from codi_jax.config import ConfigError

HELP = "compile stages for hardware that need not be present: memory, traffic, bounds, cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser, config=True)
    parser.add_argument("--stage", action="append", default=[], metavar="NAME", help="only this stage (repeatable)")
    parser.add_argument(
        "--topology", metavar="NAME", help="a TPU slice, such as v5e:4x4 or v5p:4x4x4; needs codi_jax[plan], no TPU"
    )
    parser.add_argument(
        "--devices", type=int, metavar="N", help="N virtual CPU devices (by default, the devices of this machine)"
    )
    parser.add_argument(
        "--mesh",
        metavar="A=n,B=n",
        help="mesh instead of the config's, such as data=4,fsdp=64; -1 takes the remaining devices",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="global batch size instead of each stage's")
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="estimate other meshes and batch sizes, and compile the best three in total",
    )
    parser.add_argument("--json", type=local_path, metavar="FILE", help="also write the rows to this file")
    parser.add_argument("--cache", type=local_path, metavar="DIRECTORY", help="cache of compiled rows")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Prints the table of the plan."""
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
    recipe = run_of(args, rest)
    mesh = MeshConfig.parse(args.mesh) if args.mesh else recipe.config.mesh
    print_choices()
    rows = plan(recipe, tuple(args.stage), where, mesh, args.batch, args.sweep, args.cache, progress=ProgressLines())
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        storage.write_text(args.json, json.dumps(rows, indent=1) + "\n")
    print(shown(rows))
