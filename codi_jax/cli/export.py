"""`codi-jax export`."""

import argparse
from collections.abc import Sequence

from codi_jax.cli.common import add_workdir, local_path, run_of
from codi_jax.config import ConfigError

HELP = "write the release's checkpoint files from components of this model, or the adapters of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser, config=True)
    parser.add_argument("--out", type=local_path, required=True, help="directory for the .pth files, or that of --lora")
    parser.add_argument(
        "--lora", action="store_true", help="write the LoRA adapters that the run keeps apart, as diffusers reads them"
    )


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Writes the files and prints a table of them."""
    from codi_jax.interop import lora
    from codi_jax.interop.export import export
    from codi_jax.parallel.host import return_freed_memory

    return_freed_memory()
    recipe = run_of(args, rest)
    stages = recipe.finished_stages()
    if args.lora:
        from codi_jax.train.variables import all_adapters

        path = args.out / lora.NAME
        number = lora.write(recipe.codi, all_adapters(recipe), path)
        print(f"{path}: {number} tensors")
        return
    if adapted := recipe.adapter_sources(stages):
        raise ConfigError(
            f"adapters of {', '.join(adapted)} are kept apart, which the release's files are not: export them by "
            "--lora, or train them with lora.merge=True"
        )
    print(export(recipe.codi, recipe.component_sources(stages), args.out))
