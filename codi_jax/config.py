"""Typed, frozen dataclasses from a ConfigDict.

One ml_collections ConfigDict, which holds data only, configures a run. Every module declares its fields as a frozen
dataclass. `from_dict` builds it from a subtree of the ConfigDict before any computation, so that a misspelt key or a
value of the wrong type is a one-line error.
"""

import dataclasses
import difflib
import types
import typing
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


class ConfigError(ValueError):
    """An invalid config, argument or input file. The message is one line, for the user."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: " (did you mean image?)" if one of `names` is similar, else ""."""
    close = difflib.get_close_matches(name.lower(), list(names), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def renamed(was: str, **options: Any) -> Any:
    """A dataclass field whose config key was renamed; `from_dict` reads the old key too, with a warning.

    Args:
      was: the old key.
      **options: those of `dataclasses.field`.
    """
    return dataclasses.field(metadata={"was": was}, **options)


def _convert(value: Any, kind: Any, where: str) -> Any:
    """`value` as the annotated type `kind`; `where` is its path in the config, for messages."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        errors = []
        for option in (a for a in args if a is not type(None)):
            try:
                return _convert(value, option, where)
            except ConfigError as error:
                errors.append(str(error))
        raise ConfigError(errors[0])
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else from_dict(kind, value, where)
    if origin is tuple:
        if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
            raise ConfigError(f"config.{where}: expected a sequence, got {value!r}")
        return tuple(_convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not hasattr(value, "items"):
            raise ConfigError(f"config.{where}: expected a mapping, got {value!r}")
        return {k: _convert(v, args[1], f"{where}.{k}") for k, v in value.items()}
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"config.{where}: expected one of {', '.join(map(repr, args))}, got {value!r}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"config.{where}: expected {kind.__name__}, got {value!r}")
    return value


def from_dict(cls: type[T], tree: Any, where: str = "") -> T:
    """Builds the frozen dataclass `cls` from a ConfigDict or mapping.

    Args:
      cls: a dataclass whose annotations are bool, int, float, str, Any, Literal, tuple[X, ...], dict[str, X],
        X | None or another dataclass.
      tree: the mapping.
      where: path of `tree` in the whole config, for messages.

    Raises:
      ConfigError: an unknown key, a missing one or a value of another type; the message gives its path.

    Warns:
      FutureWarning: an old key, see `renamed`.
    """
    if not hasattr(tree, "items"):
        raise ConfigError(f"config.{where or '<root>'}: expected a mapping for {cls.__name__}, got {tree!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    values = dict(tree.items())
    prefix = f"{where}." if where else ""
    new_names = {f.metadata["was"]: name for name, f in fields.items() if "was" in f.metadata}
    for key in tuple(values):
        if key in new_names and new_names[key] not in values:
            warnings.warn(f"config.{prefix}{key} is now called {prefix}{new_names[key]}", FutureWarning, stacklevel=2)
            values[new_names[key]] = values.pop(key)
        elif key not in fields:
            raise ConfigError(f"config.{prefix}{key}: unknown key; {cls.__name__} knows {', '.join(fields)}")
    out = {}
    for name, field in fields.items():
        if name in values:
            out[name] = _convert(values[name], hints[name], prefix + name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"config.{prefix}{name}: missing; {cls.__name__} needs it")
    return cls(**out)
