"""The variables of a model by component, read when they are first used."""

from collections.abc import Callable, Iterable
from typing import Any

from codi_jax.config import ConfigError


class Weights:
    """A function from names of components to their variables {"params", "constants"}.

    Args:
      read: reads the variables of the named components.
      check: raises ConfigError if `read` cannot read one of the named components. It is called before anything is
        computed.
      keep: whether to keep what was read. If not, every use reads again, and memory holds one network after the other.
    """

    def __init__(
        self,
        read: Callable[[tuple[str, ...]], dict[str, Any]],
        check: Callable[[tuple[str, ...]], Any],
        keep: bool = True,
    ):
        self._read, self._check, self._keep = read, check, keep
        self._checked: set[str] = set()
        self._held: dict[str, dict[str, Any]] = {"params": {}, "constants": {}}

    @classmethod
    def of(cls, variables: dict[str, Any]) -> "Weights":
        """Those of variables that are in memory."""

        def check(components: tuple[str, ...]) -> None:
            if missing := [name for name in components if name not in variables["params"]]:
                raise ConfigError(f"no weights for {', '.join(missing)}")

        return cls(lambda _: variables, check)

    def changed(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> "Weights":
        """These weights with parameters {component: tree} changed by a function; the ones here stay as they are."""

        def read(components: tuple[str, ...]) -> dict[str, Any]:
            variables = self(components)
            return {**variables, "params": change(variables["params"])}

        return Weights(read, self.check, self._keep)

    def check(self, components: Iterable[str]) -> None:
        """Checks that these components can be read.

        Raises:
          ConfigError: one is missing or damaged.
        """
        new = tuple(dict.fromkeys(name for name in components if name not in self._checked))
        if new:
            self._check(new)
        self._checked.update(new)

    def __call__(self, components: tuple[str, ...]) -> dict[str, Any]:
        """The variables of these components and of no others.

        Raises:
          ConfigError: one is missing or damaged.
        """
        new = tuple(name for name in components if name not in self._held["params"])
        loaded = self._read(new) if new else {}
        fresh = {kind: {name: tree[name] for name in new if name in tree} for kind, tree in loaded.items()}
        held = {kind: {**tree, **fresh.get(kind, {})} for kind, tree in self._held.items()}
        if self._keep:
            self._held = held
        return {kind: {name: tree[name] for name in components if name in tree} for kind, tree in held.items()}
