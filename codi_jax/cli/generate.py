"""`codi-jax generate`: a `Pipeline` called from the command line, with options of the same names."""

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codi_jax.cli import conditions
from codi_jax.cli.common import (
    add_workdir,
    directory,
    number,
    refuse_arguments,
    split_config,
)
from codi_jax.cli.models import open_model
from codi_jax.config import ConfigError

if TYPE_CHECKING:
    from codi_jax.pipeline import Pipeline

HELP = "generate any outputs jointly from any prompts; with the packaged model unless a run is named"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    from codi_jax.diffusion.samplers import SAMPLERS, SPACINGS
    from codi_jax.modalities import MODALITIES

    add_workdir(parser, config=True)
    parser.epilog = (
        f"{parser.epilog} Beside a workdir or a packaged model, --config.generate.a=value overrides a setting of "
        "generation. A modality of a plugin has an option of its name for its prompts, too."
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a packaged model, a folder written by `package` or `save_pretrained`, or hf://org/name (digit_world)",
    )
    for name in MODALITIES:
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="PROMPT",
            help=f"a prompt of modality {name}: its text or file",
        )
    parser.add_argument("--to", default="", metavar="A,B", help="modalities to generate, separated by commas")
    parser.add_argument("--out", type=directory, required=True, help="directory for the files")
    parser.add_argument("--weights", default="", metavar="A=x,B=y", help="mix weights of the prompts (1 each)")
    parser.add_argument("--n", default="1", help="number of samples (1)")
    parser.add_argument("--random-weights", action="store_true", help="initialize components that have no weights")
    parser.add_argument(
        "--seed",
        default="0",
        metavar="S",
        help="the same seed gives the same samples (0); or S,T,…, one for each sample, whatever the other samples are",
    )
    parser.add_argument(
        "--guidance",
        action="append",
        default=[],
        metavar="A=x",
        help="scale of guidance by the prompt, by output; a number alone is that of all outputs (the config's)",
    )
    parser.add_argument(
        "--negative",
        action="append",
        default=[],
        metavar="PROMPT",
        help="a negative prompt of the model's first modality, or A=PROMPT; guidance leads away from it",
    )
    parser.add_argument("--steps", help="sampling steps (the config's)")
    parser.add_argument("--sampler", metavar="NAME", help=f"{', '.join(SAMPLERS)} (the config's)")
    parser.add_argument("--eta", help="noise of the sampler ddim, 0 to 1 (the config's)")
    parser.add_argument("--spacing", metavar="NAME", help=f"of timesteps: {', '.join(SPACINGS)} (the config's)")
    parser.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="adapters to add: a safetensors file, hf://org/name, or the workdir of a run that has them apart (1)",
    )
    parser.add_argument("--batch-size", metavar="B", help="samples that are computed at a time (all)")
    conditions.add_arguments(parser)


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Writes the generated samples and prints their paths."""
    from codi_jax import storage
    from codi_jax.progress import ProgressLines
    from codi_jax.sampling.prompts import PromptWarning

    storage.check_output(args.out)
    config, rest = split_config(rest)
    model = open_model(args, config, keep=False)  # networks are read one after the other
    pipe = model.pipe.with_adapters(_adapters(args.lora)) if args.lora else model.pipe
    prompts = _prompts(pipe, args, rest)
    if model.title:
        print(model.title, file=sys.stderr, flush=True)
    outputs = [name for name in map(str.strip, args.to.split(",")) if name]
    options = {
        "n": number("--n", args.n, int),
        "seed": _seed(args.seed),
        "weights": dict(_numbers("--weights", [args.weights])),
        "guidance": _guidance(args.guidance, outputs),
        "negative": _negative(pipe, args.negative),
        "hold": conditions.parse(args),
        "steps": None if args.steps is None else number("--steps", args.steps, int),
        "sampler": args.sampler,
        "eta": None if args.eta is None else number("--eta", args.eta, float),
        "spacing": args.spacing,
        "batch_size": None if args.batch_size is None else number("--batch-size", args.batch_size, int),
        "progress": ProgressLines(),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("always", PromptWarning)
        shown = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any) -> None:
            if issubclass(category, PromptWarning):
                print(f"codi-jax: {message}", file=sys.stderr, flush=True)
            else:
                shown(message, category, *place)

        warnings.showwarning = show
        out = pipe(prompts, outputs, **options)
    for path in out.save(args.out):
        print(path)


def _prompts(pipe: "Pipeline", args: argparse.Namespace, rest: Sequence[str]) -> dict[str, str]:
    """Modality -> its prompt; those of modalities of plugins are in `rest`."""
    from codi_jax.modalities import MODALITIES

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in pipe.modalities:
        if not hasattr(args, name):
            parser.add_argument(f"--{name}", action="append", default=[])
    args, rest = parser.parse_known_args(rest, args)
    refuse_arguments(rest)
    prompts = {}
    for name in MODALITIES:
        given = getattr(args, name, ())
        if len(given) > 1:
            raise ConfigError(f"--{name} is given {len(given)} times; use one prompt per modality")
        if given:
            prompts[name] = given[0]
    return prompts


def _negative(pipe: "Pipeline", given: Iterable[str]) -> dict[str, str]:
    """Modality -> its negative prompt."""
    negative: dict[str, str] = {}
    for argument in given:
        name, named, prompt = argument.partition("=")
        if not (named and name.strip() in pipe.modalities):
            name, prompt = pipe.modalities[0], argument
        if name.strip() in negative:
            raise ConfigError(f"--negative is given twice for {name.strip()}; use one prompt per modality")
        negative[name.strip()] = prompt
    return negative


def _seed(text: str) -> int | list[int]:
    """Parses --seed: one number, or one for each sample, separated by commas."""
    seeds = [number("--seed", part, int) for part in text.split(",") if part.strip()]
    return seeds if "," in text else number("--seed", text, int)


def _adapters(given: Iterable[str]) -> dict[str, float]:
    """File or workdir -> weight; what follows the last colon is a weight if it is a number."""
    weights: dict[str, float] = {}
    for argument in given:
        name, _, weight = argument.rpartition(":")
        try:
            name, value = (name, float(weight)) if name else (argument, 1.0)
        except ValueError:
            name, value = argument, 1.0
        if name in weights:
            raise ConfigError(f"--lora: {name} is given twice")
        weights[name] = value
    return weights


def _numbers(option: str, texts: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Parses A=x,B=y; the name of a number alone is ""."""
    for part in filter(str.strip, (part for text in texts for part in text.split(","))):
        name, named, value = part.rpartition("=")
        try:
            if not named and option == "--weights":
                raise ValueError
            yield name.strip(), float(value)
        except ValueError:
            raise ConfigError(f"{option}: expected NAME=NUMBER, got {part!r}") from None


def _guidance(given: Iterable[str], outputs: Iterable[str]) -> Mapping[str, float]:
    """Output -> scale; a number alone is that of all outputs that are not named."""
    scales = dict(_numbers("--guidance", given))
    common = {} if "" not in scales else dict.fromkeys(outputs, scales.pop(""))
    return common | scales
