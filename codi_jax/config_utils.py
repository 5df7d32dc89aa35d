"""Helpers for config files: parsing their argument, and the ConfigDict of a typed config."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from codi_jax.config import ConfigError, did_you_mean, to_dict


def parse_argument(argument: str, **defaults: Any) -> SimpleNamespace:
    """Parses the argument of a config, `name` or `name=value` separated by commas, with typed defaults.

    Raises:
      ConfigError: an unknown name or a value of another type than its default.
    """
    values = dict(defaults)
    for part in (argument or "").split(","):
        name, _, text = part.partition("=")
        if not part:
            continue
        if name not in defaults:
            hint = did_you_mean(name, defaults)
            raise ConfigError(f"config argument {name!r}: unknown{hint}; this config knows {', '.join(defaults)}")
        kind = type(defaults[name])
        try:
            values[name] = (text or "1") in ("1", "true", "True") if kind is bool else kind(text)
        except ValueError as error:
            raise ConfigError(f"config argument {name}={text}: expected {kind.__name__}") from error
    return SimpleNamespace(**values)


def options_of(argument: str, function: Callable[..., Any]) -> dict[str, Any]:
    """The argument of a config as keyword arguments of `function`, whose defaults give their types.

    What `function` takes as a tuple is joined by "+".

    Raises:
      ConfigError: see `parse_argument`.
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    joined = {name: "+".join(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    return vars(parse_argument(argument, **joined))


def to_config_dict(config: Any) -> ConfigDict:
    """A config class as the ConfigDict that the command line reads, with all fields, so that each can be overridden."""
    return ConfigDict(to_dict(config), convert_dict=True)
