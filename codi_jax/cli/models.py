"""The model that a command's arguments name: a packaged one, a run, or a config."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from codi_jax.cli.common import names_file, override, refuse_other_overrides, run_of
from codi_jax.config import ConfigError

if TYPE_CHECKING:
    from codi_jax.pipeline import Pipeline


@dataclasses.dataclass(frozen=True)
class NamedModel:
    """A model.

    Attributes:
      pipe: its pipeline, with the overrides of `config.generate`.
      title: a line that names a packaged model; "" for a run.
      identity: what its results depend on, see `loading.identity`.
    """

    pipe: "Pipeline"
    title: str
    identity: str


def open_model(args: argparse.Namespace, config: Sequence[str], *, keep: bool, all_devices: bool = False) -> NamedModel:
    """Opens the model of --model, --workdir or --config; the default packaged one if none is given.

    Args:
      args: options `model` and `workdir`, and `random_weights` if the verb has it.
      config: --config and its overrides.
      keep, all_devices: see `loading.load`.

    Raises:
      ConfigError: several are named, or it cannot be opened.
    """
    from codi_jax import __version__, loading, packaged

    random = getattr(args, "random_weights", False)
    named = names_file(config)
    if args.model is not None and (args.workdir is not None or named):
        raise ConfigError("--model names a packaged model; leave out --workdir and --config")
    title = ""
    if named or args.workdir is not None:
        if not named:
            refuse_other_overrides(config, "generate")
        run = run_of(args, config if named else ())
        pipe = loading.from_run(run, keep=keep, random=random, all_devices=all_devices)
        identity = loading.identity_of_run(run)
    else:
        refuse_other_overrides(config, "generate")
        if random:
            raise ConfigError("--random-weights: a packaged model has all its weights; see --config")
        package = packaged.open_package(args.model or packaged.DEFAULT)
        pipe = loading.from_package(package, keep=keep, all_devices=all_devices)
        by = f", packaged with codi_jax {__version__}" if package.name in packaged.MODELS else ""
        title, identity = f"model: {package.name}{by}", loading.identity_of_package(package)
    return NamedModel(pipe if named or not config else _with_overrides(pipe, config), title, identity)


def _with_overrides(pipe: "Pipeline", config: Sequence[str]) -> "Pipeline":
    """The pipeline with settings of generation overridden by --config.generate.a=value."""
    settings = dataclasses.asdict(pipe.config.complete(pipe.modalities))  # of all of them, so that each can be named
    return pipe.with_settings(**override({"generate": settings}, config)["generate"])
