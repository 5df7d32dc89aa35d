"""The path of a leaf of a pytree: its keys, joined by '/', as in `vision_unet/mid/conv1/kernel`.

Rules (sharding, freezing, learning rate, weight decay) and messages about checkpoints name leaves by their path.
"""

import re
from collections.abc import Iterable
from typing import Any

import jax
from jax.tree_util import keystr, tree_flatten_with_path

from codi_jax.config import ConfigError
from codi_jax.types import PyTree


def flatten(tree: PyTree) -> dict[str, Any]:
    """The leaves of a pytree by path, in the order of `jax.tree.leaves`.

    Raises:
      ValueError: two leaves have the same path, as in {'a/b': x, 'a': {'b': y}}.
    """
    pairs = [(keystr(keys, simple=True, separator="/"), leaf) for keys, leaf in tree_flatten_with_path(tree)[0]]
    flat = dict(pairs)
    if len(flat) != len(pairs):
        seen: set[str] = set()
        duplicate = next(path for path, _ in pairs if path in seen or seen.add(path))
        raise ValueError(f"two leaves have the path {duplicate}")
    return flat


def replace(tree: PyTree, flat: dict[str, Any]) -> PyTree:
    """A tree with the structure of `tree` and the leaves of `flat`, which has the same paths."""
    return jax.tree.unflatten(jax.tree.structure(tree), [flat[path] for path in flatten(tree)])


def nest(flat: dict[str, Any]) -> dict:
    """Nested dicts from leaves by path: the inverse of `flatten` for trees of dicts."""
    tree: dict = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree


def compile_rules(rules: Iterable[Any], where: str) -> list[tuple[str, re.Pattern, Any]]:
    """Compiles ordered (regex, value) pairs to (regex, pattern, value).

    Raises:
      ConfigError: an entry is not a pair, or its first element is not a regular expression.
    """
    compiled = []
    for rule in rules:
        if isinstance(rule, str) or not hasattr(rule, "__len__") or len(rule) != 2 or not isinstance(rule[0], str):
            raise ConfigError(f"{where}: a rule is a pair (regex over parameter paths, value), got {rule!r}")
        try:
            compiled.append((rule[0], re.compile(rule[0]), rule[1]))
        except re.error as error:
            raise ConfigError(f"{where}: {rule[0]!r} is not a regular expression: {error}") from None
    return compiled
