"""A public layout of components of ours: how its files are sorted and read. The layouts themselves are in `families`.

The caller initializes what a file does not hold: leaves (`CheckpointPart.missing`: temporal layers, the other half of
Optimus) and further rows of tables (`CheckpointPart.rows`); see `Found`. Two files may each hold a part of one
component, as those of BERT and GPT-2 do for `text_codec`; their trees have no leaf in common.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
from flax import traverse_util

from codi_jax.interop.names import NamesError, Rule, from_release

_CONTAINER = "state_dict."
_OUTSIDE = "kept by the training that wrote the file, beside its weights"


def inside(keys: Collection[str]) -> dict[str, str]:
    """Key of a weight -> key in the file: training programs save weights as one of several things, `state_dict`."""
    held = {key.removeprefix(_CONTAINER): key for key in keys if key.startswith(_CONTAINER)}
    return held or {key: key for key in keys}


@dataclasses.dataclass(frozen=True)
class CheckpointPart:
    """One component in the files of a family.

    Attributes:
      component: its name in the model.
      rules: config of the component -> the table of its keys without `prefix`.
      prefix: of its keys, as the family renamed them.
      keys: pattern of its whole keys without `prefix`; two parts may share a prefix.
      missing: patterns of our whole paths, of leaves that the files do not hold.
      rows: our paths of tables that may have more rows than the file's; the first ones are the file's.
    """

    component: str
    rules: Callable[[Any], list[Rule]]
    prefix: str = ""
    keys: str = ".*"
    missing: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    def own(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Its tensors by their names in the table, out of a renamed state."""
        inner = {key.removeprefix(self.prefix): key for key in state if key.startswith(self.prefix)}
        return {name: state[key] for name, key in inner.items() if re.fullmatch(self.keys, name)}

    def fit(self, own: Mapping[str, Any], config: Any, target: Any) -> tuple[dict[str, Any], dict[str, int]]:
        """The target with tables as long as the file has them, and for each that is shorter its number of rows."""
        flat, rows = dict(traverse_util.flatten_dict(target, sep="/")), {}
        theirs = {r.ours: r.theirs for r in self.rules(config) if r.ours in self.rows and not r.tied}
        for path in self.rows:
            table, leaf = own.get(theirs[path]), flat[path]
            if table is not None and len(table.shape) == len(leaf.shape) and table.shape[0] < leaf.shape[0]:
                rows[path] = table.shape[0]
                flat[path] = jax.ShapeDtypeStruct((table.shape[0], *leaf.shape[1:]), leaf.dtype)
        return traverse_util.unflatten_dict(flat, sep="/"), rows


@dataclasses.dataclass(frozen=True)
class Family:
    """A public layout of one or more components.

    Attributes:
      name: for people.
      signs: patterns of whole keys; a file in which each matches some key is of the family. Of this and what follows,
        keys are those of `inside`.
      parts: what its files may hold.
      rename: state -> state under the names of the parts' tables. Arrays pass as they are, except where several become
        one, which are made.
      ignore: pattern of whole keys, as renamed -> why it is left aside.
      refuse: pattern of whole keys -> why a file with such a key cannot be read at all.
    """

    name: str
    signs: tuple[str, ...]
    parts: tuple[CheckpointPart, ...]
    rename: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    ignore: Mapping[str, str] = dataclasses.field(default_factory=dict)
    refuse: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def split(self, state: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Sorts a file.

        Args:
          state: its flat dictionary.

        Returns:
          Component -> its tensors by their names in the table, for those parts of which there is any; and key, as
          renamed -> why it is left aside.

        Raises:
          ConfigError: `rename` cannot; or a key is of no part and not to be ignored.
        """
        weights = inside(state)
        ignored = dict.fromkeys(state.keys() - set(weights.values()), _OUTSIDE)
        renamed = self.rename({key: state[place] for key, place in weights.items()})
        ignored |= {key: why for key in renamed for why in [reason(self.ignore, key)] if why}
        rest = {key: value for key, value in renamed.items() if key not in ignored}
        mine = {part.component: own for part in self.parts if (own := part.own(rest))}
        known = {part.prefix + name for part in self.parts for name in mine.get(part.component, ())}
        if strange := [key for key in rest if key not in known]:
            raise NamesError(f"the file looks like {self.name}, but holds what that does not: {', '.join(strange)}")
        return mine, ignored


def reason(patterns: Mapping[str, str], key: str) -> str | None:
    """What is said of the first pattern that matches the whole key."""
    return next((why for pattern, why in patterns.items() if re.fullmatch(pattern, key)), None)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file holds of a component.

    Attributes:
      tree: nested dict of its leaves.
      missing: paths of the component's leaves that are not in it.
      rows: path of a leaf -> how many of its first rows the tree has, where the component has more.
    """

    tree: dict[str, Any]
    missing: tuple[str, ...]
    rows: Mapping[str, int]


def read(
    family: Family,
    state: Mapping[str, Any],
    configs: Mapping[str, Any],
    targets: Mapping[str, Any],
    cast: bool = True,
) -> tuple[dict[str, Found], dict[str, str]]:
    """Reads a file of a family.

    Args:
      family: see `recognise`.
      state: the file's flat dictionary.
      configs: component -> its config, for at least the components of `targets`.
      targets: component -> nested dict of shapes and dtypes, of the components that the model has.
      cast: see `names.from_release`.

    Returns:
      Component -> what was found of it; and key, as renamed -> why it is left aside.

    Raises:
      ConfigError: see `Family.split`; or, as a NamesError, whatever does not fit, of all components at once.
    """
    mine, ignored = family.split(state)
    found, problems = {}, []
    for part in family.parts:
        component = part.component
        if component not in mine:
            continue
        if component not in targets:
            ignored |= {part.prefix + name: f"of {component}, which this model has not" for name in mine[component]}
            continue
        own, config, target = mine[component], configs[component], targets[component]
        fitted, rows = part.fit(own, config, target)
        try:
            tree = from_release(own, part.rules(config), fitted, optional=part.missing, cast=cast)
        except NamesError as error:
            problems.append(f"{component}: {error}")
            continue
        held = traverse_util.flatten_dict(tree, sep="/")
        missing = sorted(traverse_util.flatten_dict(target, sep="/").keys() - held.keys())
        found[component] = Found(tree, tuple(missing), rows)
    if problems:
        raise NamesError(f"{family.name}: {'; '.join(problems)}")
    return found, ignored
