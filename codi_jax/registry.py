"""Registries: things of one kind that a config names, to which a module outside of this package can add its own.

A built-in entry is the name of the module that registers it; the module is imported when the entry is asked for.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from codi_jax.config import ConfigError, did_you_mean

T = TypeVar("T")
Entry = TypeVar("Entry")

_MODULES = {  # kind -> the module whose function `register` adds one
    "modality": "codi_jax.modalities.base",
    "objective": "codi_jax.objectives.base",
    "sampler": "codi_jax.diffusion.samplers.base",
    "source": "codi_jax.data.source",
    "preset": "codi_jax.codi",
    "network": "codi_jax.evaluation.networks",
}


def register(kind: str, name: str, **options: Any) -> Callable[[Entry], Entry]:
    """Decorator that makes a class or an object of a user known by a name, which a config or a call can then use.

        @codi_jax.register("source", "sensor", config=SensorConfig)
        class Sensor: ...

    Args:
      kind: modality, objective, sampler, source, preset, or network. The interface of each is the class `Modality`, or
        the Protocol `ObjectiveClass`, `Sampler`, `Source` or `MakeNetwork` in the module named above; a preset is a
        function from options to a `CoDiConfig`.
      name: the name; that of a modality is its attribute `name`, too.
      **options: of this kind; a source has `config`, the dataclass of its config.

    Raises:
      ConfigError: an unknown kind.
      ValueError: another entry has the name.
    """
    if kind not in _MODULES:
        raise ConfigError(f"no kind {kind!r}{did_you_mean(kind, _MODULES)}; there are {', '.join(_MODULES)}")
    return importlib.import_module(_MODULES[kind]).register(name, **options)


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
            hint = did_you_mean(name, self) if isinstance(name, str) else ""
            raise ConfigError(f"no {self._kind} {name!r}{hint}; there are {', '.join(self)}")
        return self[name]

    def add(self, name: str, entry: T) -> None:
        """Adds an entry.

        Raises:
          ValueError: another entry has the name.
        """
        if self._entries.get(name, entry) is not entry:
            raise ValueError(f"{self._kind} {name!r} is registered already, by {self._entries[name]}")
        self._entries[name] = entry

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Decorator that adds a class or an object, see `add`."""

        def add(entry: Any) -> Any:
            self.add(name, entry)
            return entry

        return add

    def __contains__(self, name: object) -> bool:
        return name in self._built_in or name in self._entries
