"""The overrides of a config on the command line: `--config.stages.ldm.image.steps=2000`.

Every field of the config classes can be overridden, whether the config declares it or not. A part of a path is a field
or a key of a mapping, with any characters: `--config.stages.bridging.text+audio.steps=2000`. ml_collections parses the
values; it needs the type of each field, which is that of the config class.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict, FieldReference

from codi_jax.config import ConfigError, did_you_mean, to_dict
from codi_jax.data.source import SOURCES


def declare(config: ConfigDict, cls: type, arguments: Sequence[str]) -> list[str]:
    """Declares the fields that arguments override, with their types and defaults, if the config does not.

    Args:
      config: is changed.
      cls: the config class of the whole config.
      arguments: `--config.PATH=VALUE`; others are returned as they are.

    Returns:
      The arguments, with paths in the syntax of ml_collections: `--config.stages.bridging["text+audio"].steps=2000`.

    Raises:
      ConfigError: a path leads to no field.
    """
    return [_declare(config, cls, a) if a.startswith("--config.") else a for a in arguments]


def _declare(config: ConfigDict, cls: type, argument: str) -> str:
    flag, equals, value = argument.partition("=")
    path = re.sub(r"\[(['\"])(.*?)\1\]", r".\2", flag).removeprefix("--config.")
    where, kind, tree = "config", cls, config
    parts, out = path.split("."), "--config"
    while parts:
        if not isinstance(tree, ConfigDict):
            raise ConfigError(_no_mapping(where, tree, kind, parts))
        key, parts = _next_key(tree, parts)
        if dataclasses.is_dataclass(kind):
            kind = _declare_field(tree, kind, key, where)
        else:
            kind = _declare_key(tree, kind, key, where, last=not parts)
        out += f".{key}" if key.isidentifier() else f"[{key!r}]"
        where, tree = f"{where}.{key}", tree[key]
    return f"{out}{equals}{value}"


def _no_mapping(where: str, value: Any, kind: Any, parts: Sequence[str]) -> str:
    if value is None and dataclasses.is_dataclass(kind):
        needed = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
        example = ", ".join(f"'{name}': …" for name in dict.fromkeys((*needed, parts[0])))
        return f"{where} is not set: give all of it, --{where}={{{example}}}"
    return f"{where} is {value!r}, which has no field {'.'.join(parts)!r}"


def _next_key(tree: ConfigDict, parts: list[str]) -> tuple[str, list[str]]:
    """The longest beginning of a path that is a key, or else the first part; and the rest of the path."""
    for count in range(len(parts), 1, -1):
        if (key := ".".join(parts[:count])) in tree:
            return key, parts[count:]
    return parts[0], parts[1:]


def _declare_field(tree: ConfigDict, cls: Any, key: str, where: str) -> Any:
    """Declares a field of a config class; returns what its value is, see `_declare_key`."""
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    if key not in fields:
        if new := next((name for name, f in fields.items() if f.metadata.get("was") == key), None):
            raise ConfigError(f"{where}.{key} is now called {new}")
        known = f"{cls.__name__} knows {', '.join(fields)}"
        raise ConfigError(f"{where}.{key}: unknown key{did_you_mean(key, fields)}; {known}")
    field, kind = fields[key], typing.get_type_hints(cls)[key]
    was = field.metadata.get("was")
    if key in tree:
        value = tree[key]
    elif was is not None and was in tree:  # the former key
        with tree.unlocked():
            value = tree[key] = tree[was]
            del tree[was]
    elif field.default_factory is not dataclasses.MISSING:
        value = to_dict(field.default_factory())
    else:
        value = None if field.default is dataclasses.MISSING else to_dict(field.default)
    _set(tree, key, value, _type(kind))
    return _inner(kind) if not field.metadata.get("open") else dict[str, object]


def _declare_key(tree: ConfigDict, kind: Any, key: str, where: str, last: bool) -> Any:
    """Declares a key of a mapping; returns what its value is.

    Args:
      tree: the mapping.
      kind: its type. A mapping of numbers or strings takes new keys, and so does an `open_dict`; one of `Any` or of
        config classes does not. The section of a source has the fields of the class that it names.
      key: the key.
      where: the path of the mapping.
      last: whether the key ends the path.
    """
    source = tree.get("name") if re.fullmatch(r"config\.sources\.[^.]+", where) else None
    if isinstance(source, str) and key != "name":
        return _declare_field(tree, SOURCES.find(source).config, key, where)
    inner = typing.get_args(kind)[1] if typing.get_origin(kind) is dict else Any
    if key not in tree:
        if inner is Any or not last:
            there = ", ".join(tree) or "none"
            raise ConfigError(f"{where}.{key}: unknown key{did_you_mean(key, list(tree))}; there are {there}")
        _set(tree, key, None, _type(inner))
    return _inner(inner)


def _inner(kind: Any) -> Any:
    """A type without `| None`."""
    options = [a for a in typing.get_args(kind) if a is not type(None)]
    return options[0] if typing.get_origin(kind) in (types.UnionType, typing.Union) and len(options) == 1 else kind


def _type(kind: Any) -> type:
    """The type by which ml_collections parses a field."""
    kind = _inner(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal and len({type(value) for value in args}) == 1:
        return type(args[0])
    if origin is dict or dataclasses.is_dataclass(kind):
        return ConfigDict
    if origin is tuple:
        return tuple
    return kind if kind in (bool, int, float, str) else object  # object: any literal, or a string


def _set(tree: ConfigDict, key: str, value: Any, kind: type) -> None:
    """Sets a value with a type, unless it has this type. A reference of other fields keeps its identity."""
    if key in tree and tree.get_type(key) is kind:
        return
    if value is not None and kind in (float, tuple, ConfigDict):
        value = kind(value)
    with tree.unlocked(), tree.ignore_type():
        tree[key] = FieldReference(value, field_type=kind)
