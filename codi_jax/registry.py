"""Registries: things of one kind that a config names, to which a module outside of this package can add its own.

A built-in entry is the name of the module that registers it; the module is imported when the entry is asked for.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from codi_jax.config import ConfigError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name -> entry; iterating gives all names, built-in ones first.

    Args:
      kind: what an entry is, for messages: "objective".
      built_in: name -> the module that registers it.
    """

    def __init__(self, kind: str, built_in: Mapping[str, str]):
        self._kind, self._built_in = kind, dict(built_in)
        self._entries: dict[str, T] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._built_in, *self._entries)))

    def __len__(self) -> int:
        return len(self._built_in.keys() | self._entries.keys())

    def __getitem__(self, name: str) -> T:
        """The entry of a name.

        Raises:
          KeyError: there is none.
        """
        if name not in self._entries and name in self._built_in:
            importlib.import_module(self._built_in[name])
        return self._entries[name]

    def find(self, name: str) -> T:
        """The entry of a name from a config.

        Raises:
          ConfigError: there is none; the message lists the names.
        """
        if name not in self:
            raise ConfigError(f"no {self._kind} {name!r}; there are {', '.join(self)}")
        return self[name]

    def add(self, name: str, entry: T) -> None:
        """Adds an entry.

        Raises:
          ValueError: another entry has the name.
        """
        if self._entries.get(name, entry) is not entry:
            raise ValueError(f"{self._kind} {name!r} is registered already, by {self._entries[name]}")
        self._entries[name] = entry

    def __contains__(self, name: object) -> bool:
        return name in self._built_in or name in self._entries
