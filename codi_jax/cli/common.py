"""What verbs share: directories and configs as arguments, the run they name, and how an error ends a command."""

import argparse
import dataclasses
import functools
import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from codi_jax import storage
from codi_jax.config import ConfigError, did_you_mean
from codi_jax.exit_codes import EXIT_BAD_INPUT, EXIT_BELOW_FLOORS, EXIT_UNAVAILABLE

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from codi_jax.digit_world.benchmark.verdict import Verdict
    from codi_jax.train.recipe import Run

IN_PLACE_OF_A_WORKDIR = (
    "In place of a workdir, --config=NAME[:argument] names a config, one of ours or a file, and --config.a.b=value "
    "overrides a field of it."
)


def refuse(error: Exception | str) -> NoReturn:
    """Prints the error as one line and exits: with `EXIT_UNAVAILABLE` if a store fails, else with `EXIT_BAD_INPUT`."""
    from codi_jax.parallel import distributed

    print(f"codi-jax: {error}", file=sys.stderr)
    transient = isinstance(error, Exception) and storage.is_transient(error)
    distributed.exit_process(EXIT_UNAVAILABLE if transient else EXIT_BAD_INPUT)


def end_on(verdict: "Verdict | None") -> None:
    """Prints the verdict of an evaluation, if there is one, and exits if the model is below its floors."""
    from codi_jax.parallel import distributed

    if verdict is not None:
        print(f"\n{verdict}", flush=True)
        if not verdict.passed:
            distributed.exit_process(EXIT_BELOW_FLOORS)


class _Print(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)


def print_choices() -> None:
    """From now on what the package logs about its choices is printed, such as the kernel of each size of attention."""
    logger = logging.getLogger("codi_jax")
    logger.setLevel(logging.INFO)
    logger.propagate = False  # absl's handler would print it again
    if not any(isinstance(handler, _Print) for handler in logger.handlers):
        logger.addHandler(_Print())


def directory(argument: str) -> Path:
    """Parses an argument that names a directory, on a local disk or in an object store."""
    try:
        return storage.check_access(argument)
    except ConfigError as error:  # argparse would print its usage, too
        refuse(error)


def local_path(argument: str) -> Path:
    """Parses an argument that names a local file or directory."""
    return Path(os.path.expanduser(argument))


def seed(argument: str) -> int:
    """Parses an argument that is a seed."""
    from codi_jax.rng import check_seed

    try:
        return check_seed(number("--seed", argument, int), "--seed")
    except ConfigError as error:  # argparse would print its usage, too
        refuse(error)


def add_workdir(parser: argparse.ArgumentParser, config: bool = False, required: bool = True) -> None:
    """Adds --workdir: required, unless `config` says that --config may take its place, or another option may."""
    if config:
        parser.epilog = IN_PLACE_OF_A_WORKDIR
    parser.add_argument(
        "--workdir",
        type=directory,
        required=required and not config,
        help="directory of the run, a local path or gs://… or s3://…",
    )


def refuse_arguments(rest: Sequence[str]) -> None:
    """Raises ConfigError if arguments are left that the verb does not know."""
    if rest:
        raise ConfigError(f"unknown arguments: {' '.join(rest)}")


def split_config(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments that are left as those of --config, each --config…=VALUE, and the others."""
    config, others = [], []
    arguments = iter(rest)
    for argument in arguments:
        if argument.startswith("--config") and "=" not in argument:
            argument = "=".join((argument, *itertools.islice(arguments, 1)))
        (config if argument.startswith("--config") else others).append(argument)
    return config, others


def names_config(rest: Sequence[str]) -> bool:
    """Whether the arguments that are left include --config or an override of it."""
    return any(argument.startswith("--config") for argument in rest)


def names_file(rest: Sequence[str]) -> bool:
    """Whether the arguments that are left include --config itself, the name of a config."""
    return any(not argument.startswith("--config.") for argument in split_config(rest)[0])


def changed_config(workdir: Path, arguments: Sequence[str]) -> "ConfigDict":
    """The ConfigDict of a workdir's config with overrides.

    Raises:
      ConfigError: config.json is damaged, an override is invalid, or there are other arguments.
    """
    from ml_collections import ConfigDict

    from codi_jax.train.recipe import load_run

    given, others = split_config(arguments)
    refuse_arguments(others)
    load_run(workdir)  # refuses plugins that the user has not named
    return _override(ConfigDict(storage.read_json(workdir / "config.json"), convert_dict=True), given)


def read_config(arguments: Sequence[str]) -> "ConfigDict":
    """The ConfigDict of --config and its overrides.

    --config is a file, or the name of one of ours, and the argument of its `get_config` after a colon. Every field of
    the config classes can be overridden, see `cli.overrides`.

    Raises:
      ConfigError: --config is missing or invalid, an override is invalid, or there are other arguments.
    """
    from ml_collections import ConfigDict, config_flags

    from codi_jax.config_utils import to_config_dict

    if (here := os.getcwd()) not in sys.path:  # a config file may import what lies there
        sys.path.append(here)
    given, others = split_config(arguments)
    refuse_arguments(others)
    overrides = [argument for argument in given if argument.startswith("--config.")]
    named = [_with_file(argument) for argument in given if argument not in overrides]
    config = _parse(functools.partial(config_flags.DEFINE_config_file, "config"), named)
    if dataclasses.is_dataclass(config):
        config = to_config_dict(config)
    if config is None:
        raise ConfigError("train needs --config=NAME[:argument] in a workdir that holds no config yet")
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config: get_config returns {type(config).__name__}; expected a ConfigDict")
    return _override(config, overrides)


def _with_file(argument: str) -> str:
    """The argument --config=NAME[:argument] with the file of that name among ours.

    Raises:
      ConfigError: there is no such config.
    """
    flag, given, value = argument.partition("=")
    name, colon, rest = value.partition(":")
    name = os.path.expanduser(name)
    if flag != "--config" or not given or not name:
        return argument
    if name.endswith(".py") or "/" in name:
        if not Path(name).is_file():
            raise ConfigError(f"--config: no file {name}")
        return f"{flag}={name}{colon}{rest}"
    known = {path.stem: path for path in sorted(_configs().glob("*.py"))}
    if name not in known:
        hint = did_you_mean(name, known)
        raise ConfigError(f"--config: no config {name!r}{hint}; there are {', '.join(known)}, or give a file.py")
    return f"{flag}={known[name]}{colon}{rest}"


def _configs() -> Path:
    """The directory of our configs: inside of an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def _parse(define: Callable[..., Any], arguments: Sequence[str]) -> Any:
    """The value of a flag --config, which `define` defines, with its overrides."""
    from absl import flags

    values = flags.FlagValues()
    try:
        define(lock_config=True, flag_values=values, sys_argv=["codi-jax", *arguments])
        rest = values(["codi-jax", *arguments])[1:]
        config: Any = values.config
        hasattr(config, "items")  # an error while loading the file is raised on first access
    except ConfigError:
        raise
    except (flags.Error, OSError, KeyError, AttributeError, TypeError, ValueError, SyntaxError, ImportError) as error:
        cause = error.args[0] if error.args else ""
        text = f"no key {cause.args[0]}" if isinstance(cause, KeyError) else str(error)  # ml_collections wraps it
        if wrapped := re.search(rf"\b{ConfigError.__module__}\.{ConfigError.__name__}: (.*)", text):
            raise ConfigError(wrapped[1]) from error  # of the config file itself
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        raise ConfigError(f"--config: {lines[0]} {lines[-1] if len(lines) > 1 else ''}".strip()) from error
    refuse_arguments(rest)
    return config


def refuse_other_overrides(arguments: Sequence[str], *sections: str) -> None:
    """Raises ConfigError if an argument of --config is no override of these sections of a trained model's config."""
    allowed = [f"--config.{section}." for section in sections]
    if others := [argument for argument in arguments if not argument.startswith(tuple(allowed))]:
        known = " and ".join(f"{prefix}…" for prefix in allowed)
        raise ConfigError(f"{others[0]}: of a trained model only {known} can be overridden")


def number(option: str, text: str, kind: type) -> Any:
    """Parses the number of an option.

    Raises:
      ConfigError: it is none.
    """
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{option}: expected {what}, got {text!r}") from None


def numbers(args: argparse.Namespace, kinds: Mapping[str, type]) -> dict[str, Any]:
    """The numbers of the options that are given, by name.

    Args:
      args: options as texts.
      kinds: name -> type.

    Raises:
      ConfigError: a text that is no number.
    """
    given = {name: text for name in kinds if (text := getattr(args, name)) is not None}
    return {name: number(f"--{name.replace('_', '-')}", text, kinds[name]) for name, text in given.items()}


def override(tree: dict[str, Any], arguments: Sequence[str], cls: type | None = None) -> dict[str, Any]:
    """Sections of a run's config with fields that `--config.a.b=value` overrides.

    Args:
      tree: the sections.
      arguments: the overrides.
      cls: the class whose fields are the sections; RunConfig if None.

    Raises:
      ConfigError: a field that the config does not have, a value of another type, or another argument.
    """
    from ml_collections import ConfigDict

    return _override(ConfigDict(tree, convert_dict=True), arguments, cls).to_dict()


def _override(config: "ConfigDict", arguments: Sequence[str], cls: type | None = None) -> "ConfigDict":
    """The config of a run, changed by overrides."""
    from ml_collections import config_flags

    from codi_jax.cli.overrides import declare
    from codi_jax.plugins import import_plugins
    from codi_jax.train.recipe import RunConfig

    plugins: Any = config.get("plugins", ())
    import_plugins(plugins)  # which may register the sources whose fields are overridden
    named = declare(config, cls or RunConfig, arguments)
    return _parse(functools.partial(config_flags.DEFINE_config_dict, "config", config), named)


def run_of(args: argparse.Namespace, rest: Sequence[str]) -> "Run":
    """The run of --workdir, or of --config without a workdir."""
    from codi_jax.train.recipe import load_run, open_run

    if names_config(rest):
        if args.workdir is not None:
            raise ConfigError("--workdir and --config: use only one of them; a workdir has its config")
        return open_run(read_config(rest), None)
    refuse_arguments(rest)
    if args.workdir is None:
        raise ConfigError("needs --workdir=DIRECTORY of a run, or --config=NAME[:argument]")
    return load_run(args.workdir)
