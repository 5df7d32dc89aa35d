"""Differences between the config with which a workdir was begun and the one that a command gives.

A stage may be given more steps: it then goes on from its last checkpoint, with its optimizer and its EMA. How samples
are generated and evaluated may change, too, since no training depends on it. Every other difference is one of what is
trained, and is refused.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from codi_jax.config import few

_LENGTH = 40  # characters of a value in it
_NONE = object()
_AFTER_TRAINING = ("generate", "evaluate")


class Change(NamedTuple):
    """A field of two configs: its path, and its values in words."""

    path: tuple[str, ...]
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} is {said(self.before)} there and {said(self.now)} here"


def tree_of(text: str) -> dict[str, Any]:
    """A config as it is written; of a damaged file, its text."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        tree = None
    return tree if isinstance(tree, dict) else {"config.json": text}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The fields that differ between two configs, which are nested dicts."""
    a, b = dict(_flat(before, ())), dict(_flat(now, ()))
    paths = [path for path in (*a, *(path for path in b if path not in a)) if a.get(path, _NONE) != b.get(path, _NONE)]
    return [Change(path, a.get(path, _NONE), b.get(path, _NONE)) for path in paths]


def shown(found: list[Change]) -> str:
    """The first changes, and how many more there are, as the part of a line."""
    return few(list(map(str, found)), last=", ")


def keep_results(found: list[Change]) -> bool:
    """Whether what is trained stays as it is: larger numbers of steps, other settings of generation and evaluation."""
    return all(change.path[0] in _AFTER_TRAINING or _is_more_steps(change) for change in found)


def _is_more_steps(change: Change) -> bool:
    return (
        len(change.path) == 4
        and (change.path[0], change.path[-1]) == ("stages", "steps")
        and isinstance(change.before, int)
        and isinstance(change.now, int)
        and change.now > change.before > 0
    )


def _flat(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, Mapping) and (tree or not path):
        for key, value in tree.items():
            yield from _flat(value, (*path, str(key)))
    else:
        yield path, tree


def said(value: Any) -> str:
    """A value in a message."""
    if value is _NONE:
        return "not set"
    text = repr(value)
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 1]}…"
