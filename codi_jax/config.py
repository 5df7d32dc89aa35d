"""Typed, frozen dataclasses, and their conversion from and to a ConfigDict.

One ml_collections ConfigDict, which holds data only, configures a run. Every module declares its fields as a frozen
dataclass by `config_class`, which checks their types when it is constructed. `from_dict` builds it from a subtree of
the ConfigDict before any computation, so that a misspelt key or a value of the wrong type is a one-line error, and
`to_dict` is its inverse.
"""

import dataclasses
import difflib
import functools
import inspect
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Class = TypeVar("Class")
P = ParamSpec("P")
R = TypeVar("R")


NO_EFFECT = {"no_effect": True}  # metadata of a field that does not change what is computed, such as the path of a log


class ConfigError(ValueError):
    """An invalid config, argument or input file. The message is one line, for the user."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: " (did you mean image?)" if one of `names` is similar, else ""."""
    close = difflib.get_close_matches(name.lower(), list(names), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a message of one line; the name of its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def few(parts: Sequence[str], shown: int = 3, last: str = " and ") -> str:
    """The first parts of a message, and the number of the others: "a, b, c and 2 more"; `last` precedes this number."""
    return ", ".join(parts[:shown]) + (f"{last}{len(parts) - shown} more" if len(parts) > shown else "")


def renamed(was: str, **options: Any) -> Any:
    """A dataclass field whose config key was renamed; `from_dict` reads the old key too, with a warning.

    Args:
      was: the old key.
      **options: those of `dataclasses.field`.
    """
    return dataclasses.field(metadata={"was": was, **options.pop("metadata", {})}, **options)


def revalued(was: Mapping[Any, Any], **options: Any) -> Any:
    """A dataclass field some of whose values in a config were renamed; `from_dict` reads the old ones too.

    Args:
      was: old value -> new value.
      **options: those of `dataclasses.field`.
    """
    return dataclasses.field(metadata={"old_values": dict(was)}, **options)


def open_dict() -> Any:
    """A dict field, empty by default, whose keys are checked elsewhere before training: an override may add any key."""
    return dataclasses.field(default_factory=dict, metadata={"open": True})


@functools.cache
def _hints(annotated: Any) -> dict[str, Any]:
    return typing.get_type_hints(annotated)


@dataclass_transform(frozen_default=True)
def config_class(*, kw_only: bool = False) -> Callable[[type[Class]], type[Class]]:
    """Decorator of a class of annotated fields: a frozen dataclass that checks its values when it is constructed.

    Values are converted as by `from_dict`: a list or a range becomes a tuple, an int a float, a mapping another config
    class. The class's own `__post_init__` is called afterwards.

    Args:
      kw_only: whether all fields are keyword arguments.

    Raises:
      ConfigError: on construction, a value of another type than its annotation; the message names class and field.
    """

    def decorate(cls: type[Class]) -> type[Class]:
        own = cls.__dict__.get("__post_init__")

        def __post_init__(self: Any) -> None:
            hints = _hints(type(self))
            for field in dataclasses.fields(self):
                if field.init:
                    label = f"{type(self).__name__}.{field.name}"
                    value = _convert(getattr(self, field.name), hints[field.name], label)
                    object.__setattr__(self, field.name, value)
            if own is not None:
                own(self)

        if own is not None or not hasattr(cls, "__post_init__"):  # a subclass inherits that of its base
            checked: Any = cls  # which the type checker knows without this method
            checked.__post_init__ = __post_init__
        return dataclasses.dataclass(frozen=True, kw_only=kw_only)(cls)

    return decorate


def checked_options(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a function of keyword arguments: converts and checks them as `config_class` does its fields.

    Raises:
      ConfigError: on a call, an unknown option or a value of another type than its annotation.
    """
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        for name, value in options.items():
            if name not in known:
                hint = did_you_mean(name, known)
                raise ConfigError(f"no option {name!r}{hint}; there are {', '.join(known) or 'none'}")
            options[name] = _convert(value, _hints(function).get(name, Any), f"option {name}")
        return function(*args, **options)

    return call


def checked_fields(cls: type[T], **fields: Any) -> dict[str, Any]:
    """The fields after a check as those of `cls`: a section of a config that leaves its other fields to the defaults.

    Raises:
      ConfigError: an unknown field, or a value of another type or out of range.
    """
    _build(cls, fields, cls.__name__)
    return fields


def _shown(value: Any) -> str:
    """A value in a message; of a config only its class, since its fields fill pages."""
    return type(value).__name__ if dataclasses.is_dataclass(value) else repr(value)


def _convert(value: Any, kind: Any, label: str) -> Any:
    """`value` as the annotated type `kind`; `label` is its place, for messages."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        errors = []
        for option in (a for a in args if a is not type(None)):
            try:
                return _convert(value, option, label)
            except ConfigError as error:
                errors.append(str(error))
        raise ConfigError(errors[0])
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else _build(kind, value, label)
    if origin is tuple:
        if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
            raise ConfigError(f"{label}: expected a sequence, got {_shown(value)}")
        return tuple(_convert(v, args[0], f"{label}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not hasattr(value, "items"):
            raise ConfigError(f"{label}: expected a mapping, got {_shown(value)}")
        return {k: _convert(v, args[1], f"{label}.{k}") for k, v in value.items()}
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{label}: expected one of {', '.join(map(repr, args))}, got {_shown(value)}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{label}: expected {kind.__name__}, got {_shown(value)}")
    return value


def from_dict(cls: type[T], tree: Any, where: str = "") -> T:
    """Builds the frozen dataclass `cls` from a ConfigDict or mapping; an instance of it is returned as it is.

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
    if isinstance(tree, cls):
        return tree
    if not hasattr(tree, "items"):
        raise ConfigError(f"config.{where or '<root>'}: expected a mapping for {cls.__name__}, got {_shown(tree)}")
    return _build(cls, tree, f"config.{where}" if where else "config")


def _build(cls: type[T], tree: Any, label: str) -> T:
    if not hasattr(tree, "items"):
        raise ConfigError(f"{label}: expected a mapping for {cls.__name__}, got {_shown(tree)}")
    hints = _hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    values = dict(tree.items())
    new_names = {f.metadata["was"]: name for name, f in fields.items() if "was" in f.metadata}
    for key in tuple(values):
        if key in new_names and new_names[key] not in values:
            now = f"{label}.{new_names[key]}".removeprefix("config.")
            warnings.warn(f"{label}.{key} is now called {now}", FutureWarning, stacklevel=3)
            values[new_names[key]] = values.pop(key)
        elif key not in fields:
            hint = did_you_mean(key, fields) if isinstance(key, str) else ""
            raise ConfigError(f"{label}.{key}: unknown key{hint}; {cls.__name__} knows {', '.join(fields)}")
    out = {}
    for name, field in fields.items():
        if name in values:
            value = _renamed_value(values[name], field.metadata.get("old_values", {}), f"{label}.{name}")
            out[name] = _convert(value, hints[name], f"{label}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{label}.{name}: missing; {cls.__name__} needs it")
    return cls(**out)


def _renamed_value(value: Any, old_values: Mapping[Any, Any], label: str) -> Any:
    """The new value for an old one, with a warning; any other value itself."""
    for old, new in old_values.items():
        if type(value) is type(old) and value == old:
            warnings.warn(f"{label}: {old!r} is now called {new!r}", FutureWarning, stacklevel=4)
            return new
    return value


def to_dict(config: Any, effective: bool = False) -> Any:
    """The fields of a config class as nested dicts, those with default values included; the inverse of `from_dict`.

    Args:
      config: an instance, or a tree of instances.
      effective: leave out the fields that are marked as `NO_EFFECT`.
    """
    if dataclasses.is_dataclass(config):
        fields = [f for f in dataclasses.fields(config) if f.init and not (effective and "no_effect" in f.metadata)]
        return {f.name: to_dict(getattr(config, f.name), effective) for f in fields}
    if hasattr(config, "items"):
        return {name: to_dict(value, effective) for name, value in config.items()}
    return tuple(to_dict(x, effective) for x in config) if isinstance(config, (list, tuple)) else config
