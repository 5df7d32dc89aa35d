"""Reading a public checkpoint layout that holds some of our components. The layouts are listed in `families`.

The keys of the weights may have a prefix, the root: that of the dict in which a program saves them (`state_dict.`,
`generator.`), of PyTorch's wrappers (`module.`), or of the model that the network is a part of (`first_stage_model.`).

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

from codi_jax.config import ConfigError, few
from codi_jax.interop.names import NamesError, Rule, flatten, from_release
from codi_jax.interop.sizes import differences
from codi_jax.types import PyTree

# The dicts in which training programs save weights, and wrappers of PyTorch, one within another.
_CONTAINERS = (
    r"(?:(?:state_dict|state|model_state_dict|model_state|model|net|network|generator|model_g|net_g|module|params|weights"
    r"|checkpoint)\.)*"
)


# Patterns of our paths.
TEMPORAL = (r".*/temporal(_[01])?/.*",)  # layers for video
NO_PROJECTION = ("projection/.*",)


def always(rules: list[Rule]) -> Callable[[Any], list[Rule]]:
    """A table that does not depend on the config."""
    return lambda config: rules


def first_keys(keys: Collection[str]) -> str:
    """The first keys of a file, for a message."""
    return ", ".join(list(keys)[:3]) or "no tensor at all"


@dataclasses.dataclass(frozen=True)
class CheckpointPart:
    """One component in the files of a family.

    Attributes:
      component: its name in the model.
      rules: config of the component -> the name table, for keys without `prefix`.
      prefix: prefix of its keys after `Family.rename`.
      keys: pattern that its keys without `prefix` match in full; two parts may share a prefix.
      missing: patterns of our paths (full match) of leaves that the files do not hold.
      rows: our paths of tables that may have more rows than those in the file, which are then the first rows.
      when: whether tensors, by their names in the table, are of this component and not of another of the same layout.
    """

    component: str
    rules: Callable[[Any], list[Rule]]
    prefix: str = ""
    keys: str = ".*"
    missing: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    when: Callable[[Mapping[str, Any]], bool] = bool

    def select(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Its tensors in a renamed state, by their names in the table."""
        inner = {key.removeprefix(self.prefix): key for key in state if key.startswith(self.prefix)}
        tensors = {name: state[key] for name, key in inner.items() if re.fullmatch(self.keys, name)}
        return tensors if self.when(tensors) else {}

    def fit(self, tensors: Mapping[str, Any], config: Any, target: PyTree) -> tuple[dict[str, Any], dict[str, int]]:
        """The target with `rows` tables as long as in the file, and path -> number of rows of the shorter ones."""
        flat, rows = flatten(target), {}
        theirs = {r.ours: r.theirs for r in self.rules(config) if r.ours in self.rows and not r.tied}
        for path in self.rows:
            table, leaf = tensors.get(theirs[path]), flat[path]
            if table is not None and len(table.shape) == len(leaf.shape) and table.shape[0] < leaf.shape[0]:
                rows[path] = table.shape[0]
                flat[path] = jax.ShapeDtypeStruct((table.shape[0], *leaf.shape[1:]), leaf.dtype)
        return traverse_util.unflatten_dict(flat, sep="/"), rows


@dataclasses.dataclass(frozen=True)
class Family:
    """A public layout of one or more components.

    Attributes:
      name: a description for messages.
      required: patterns; a file is of the family if each matches some key in full. Here and below, keys are without the
        root, the same prefix for all of them.
      parts: the components that its files may hold.
      rename: state -> state with the names of the parts' tables. Arrays are passed unchanged, except where several are
        joined into a new one.
      ignore: pattern of keys (full match), after renaming -> reason why they are ignored.
      refuse: pattern of keys (full match) -> reason why a file with such a key is refused.
      inside: patterns of names of the network in a larger model, which may end the root.
    """

    name: str
    required: tuple[str, ...]
    parts: tuple[CheckpointPart, ...]
    rename: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    ignore: Mapping[str, str] = dataclasses.field(default_factory=dict)
    refuse: Mapping[str, str] = dataclasses.field(default_factory=dict)
    inside: tuple[str, ...] = ()

    def root(self, keys: Collection[str]) -> str | None:
        """The prefix of the weights in a file with these keys; None if it is of another family."""
        first, *others = self.required
        pattern = re.compile(f"({_CONTAINERS}{''.join(f'(?:{name})?' for name in self.inside)}){first}")
        for root in dict.fromkeys(found[1] for found in map(pattern.fullmatch, keys) if found):
            weights = [key.removeprefix(root) for key in keys if key.startswith(root)]
            if all(any(re.fullmatch(other, key) for key in weights) for other in others):
                return root
        return None

    def check_supported(self, keys: Collection[str]) -> None:
        """Checks the keys of a file of the family.

        Raises:
          ConfigError: one of them is refused.
        """
        root = self.root(keys) or ""
        for key in keys:
            if key.startswith(root) and (why := reason(self.refuse, key.removeprefix(root))):
                raise ConfigError(f"{self.name}: {key.removeprefix(root)}: {why}")

    def split(self, state: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Splits a file by component.

        Args:
          state: the flat dictionary of the file.

        Returns:
          Component -> its tensors by their names in the table, for components with any tensor; and ignored key (after
          renaming) -> reason.

        Raises:
          ConfigError: `rename` fails, or a key belongs to no part and is not ignored.
        """
        root = self.root(state) or ""
        weights = {key.removeprefix(root): value for key, value in state.items() if key.startswith(root)}
        outside = f"outside of `{root.rstrip('.')}`, such as training state"
        ignored = {key: outside for key in state if not key.startswith(root)}
        renamed = self.rename(weights)
        ignored |= {key: why for key in renamed for why in [reason(self.ignore, key)] if why}
        rest = {key: value for key, value in renamed.items() if key not in ignored}
        by_component = {part.component: tensors for part in self.parts if (tensors := part.select(rest))}
        known = {part.prefix + name for part in self.parts for name in by_component.get(part.component, ())}
        if unexpected := [key for key in rest if key not in known]:
            raise NamesError(f"looks like {self.name}, but has {len(unexpected)} unexpected keys: {few(unexpected)}")
        return by_component, ignored


def reason(patterns: Mapping[str, str], key: str) -> str | None:
    """The value of the first pattern that matches the whole key; None if there is none."""
    return next((why for pattern, why in patterns.items() if re.fullmatch(pattern, key)), None)


@dataclasses.dataclass(frozen=True)
class Found:
    """The leaves of a component that a file holds.

    Attributes:
      tree: nested dict of the leaves.
      missing: paths of the component's other leaves.
      rows: path of a leaf -> its number of rows in the tree, if the component has more.
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
      family: the family of the file, see `families.recognise`.
      state: the flat dictionary of the file.
      configs: component -> its config, for all components of `targets`.
      targets: component -> nested dict of shapes and dtypes, for the components of the model that are wanted.
      cast: see `names.from_release`.

    Returns:
      Component -> its leaves; and ignored key (after renaming) -> reason.

    Raises:
      ConfigError: see `Family.split`.
      NamesError: for each component that does not fit, the sizes that differ, or else the first tensors that do.
    """
    by_component, ignored = family.split(state)
    found, problems = {}, {}
    for part in family.parts:
        component = part.component
        if component not in by_component:
            continue
        if component not in targets:
            reason_ignored = f"of {component}, which this model does not have or --only leaves out"
            ignored |= dict.fromkeys((part.prefix + name for name in by_component[component]), reason_ignored)
            continue
        tensors, config, target = by_component[component], configs[component], targets[component]
        fitted, rows = part.fit(tensors, config, target)
        try:
            if sizes := differences(component, part.rules(config), tensors, fitted):
                raise NamesError(sizes)
            tree = from_release(tensors, part.rules(config), fitted, optional=part.missing, cast=cast)
        except NamesError as error:
            problems[component] = str(error)
            continue
        leaves = flatten(tree)
        missing = sorted(flatten(target).keys() - leaves.keys())
        found[component] = Found(tree, tuple(missing), rows)
    if problems:
        without = f"; without it: --only={','.join(found)}" if found else ""
        raise NamesError(f"{family.name}: {'; '.join(f'{c}: {why}' for c, why in problems.items())}{without}")
    return found, ignored
