"""`codi-jax generate`."""

import argparse
import functools
import itertools
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codi_jax.cli.common import add_workdir, names_config, refuse_arguments, run_of
from codi_jax.config import ConfigError

if TYPE_CHECKING:
    from codi_jax.codi import CoDi

HELP = "generate any outputs jointly from any prompts; with the packaged model unless a run is named"

Reader = Callable[[Iterable[str]], Any]  # the components that will be read -> a function that reads some of them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    from codi_jax.modalities import REGISTRY

    add_workdir(parser, config=True)
    parser.add_argument(
        "--model", metavar="NAME", help="a packaged model, or a folder written by `package` (digit_world)"
    )
    for name in REGISTRY:
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="PROMPT",
            help=f"a prompt of modality {name}: its text or file",
        )
    parser.add_argument("--to", required=True, metavar="A,B", help="modalities to generate, separated by commas")
    parser.add_argument("--out", type=Path, required=True, help="directory for the files")
    parser.add_argument("--weights", default="", metavar="A=x,B=y", help="mix weights of the prompts (1 each)")
    parser.add_argument("--n", type=int, default=1, help="number of samples (1)")
    parser.add_argument("--random-weights", action="store_true", help="initialize components that have no weights")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same samples (0)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Writes the generated samples and prints their paths."""
    import jax

    from codi_jax.config import from_dict
    from codi_jax.progress import ProgressLines
    from codi_jax.sampling.config import GenerateConfig
    from codi_jax.sampling.files import save
    from codi_jax.sampling.generator import Generator, PromptWarning

    codi, settings, reader = _model(args, rest)
    prompts = _prompts(codi, args)
    weights = _mix_weights(args.weights, prompts)
    if args.n < 1:
        raise ConfigError(f"--n: expected a positive number, got {args.n}")
    outputs = codi.order(filter(None, args.to.split(",")))
    generator = Generator(codi, from_dict(GenerateConfig, settings, "generate"))
    encoders, sampled, decoders = generator.components(outputs, prompts)
    read = reader(itertools.chain(*encoders.values(), sampled, *decoders.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptWarning)  # printed by `_prompts`
        key, progress = jax.random.key(args.seed), ProgressLines()
        values = generator.generate(read, outputs, prompts, args.n, key, weights, progress=progress)
    for path in save(codi, values, args.out):
        print(path)


def _model(args: argparse.Namespace, rest: Sequence[str]) -> "tuple[CoDi, Mapping[str, Any], Reader]":
    """The model, its `config.generate`, and the reader of its components."""
    if args.workdir is not None or names_config(rest):
        if args.model is not None:
            raise ConfigError("--model names a packaged model; leave out --workdir and --config")
        from codi_jax.train.variables import component_reader

        recipe = run_of(args, rest)
        return recipe.codi, recipe.config.generate, functools.partial(component_reader, recipe, args.random_weights)
    from codi_jax import __version__, packaged

    refuse_arguments(rest)
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


def _prompts(codi: "CoDi", args: argparse.Namespace) -> dict[str, list[Any]]:
    """Modality -> its prompt in a list. Words that the model does not know are named on stderr."""
    from codi_jax.modalities import REGISTRY

    prompts = {}
    for name in REGISTRY:
        given = getattr(args, name)
        if len(given) > 1:
            raise ConfigError(f"--{name} is given {len(given)} times; use one prompt per modality")
        if given:
            prompts[name] = [codi[name].raw_from_user(given[0])]
            if unknown := codi[name].unknown(prompts[name]):
                print(f"codi-jax: {unknown}", file=sys.stderr)
    return prompts


def _mix_weights(text: str, prompts: Mapping[str, Any]) -> dict[str, float]:
    """Parses --weights."""
    weights = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            weights[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"--weights: expected NAME=NUMBER, got {part!r}") from error
        if name not in prompts:
            raise ConfigError(f"--weights: {name!r} has no prompt; prompts: {', '.join(prompts) or 'none'}")
    return weights
