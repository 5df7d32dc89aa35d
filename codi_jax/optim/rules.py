"""Freezing rules: ordered regular expressions over parameter paths `component/…/leaf`.

A stage lists patterns. A pattern has to match the whole path, and the first match decides: the leaf is trained, or
frozen if the pattern starts with '!'. A leaf without a match is frozen.

    trainable=("!vision_unet/.*/norm/.*", "vision_unet/.*/temporal.*")

A pattern that is the first match of no leaf is an error: it is misspelt, or earlier patterns match everything that it
matches. Frozen leaves are removed from the tree that is differentiated, so they have neither gradients nor optimizer
state: `trained, frozen = partition(params, select(params, patterns))`, and the loss is of `merge(trained, frozen)`.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.parallel import paths
from codi_jax.parallel.tables import table
from codi_jax.types import Params


def assign(leaves: Iterable[str], rules: Iterable[Any], default: Any, where: str) -> dict[str, Any]:
    """The value of every path under ordered (regex, value) rules: that of the first regex that matches the whole path.

    Args:
      leaves: the paths.
      rules: the pairs.
      default: the value of a path that no rule matches.
      where: names the rules in messages.

    Raises:
      ConfigError: a rule is malformed or is the first match of no path.
    """
    compiled = paths.compile_rules(rules, where)
    deciding = [0] * len(compiled)
    matching = [0] * len(compiled)
    values, heads = {}, set()
    for path in leaves:
        heads.add(path.split("/")[0])
        hits = [i for i, (_, pattern, _) in enumerate(compiled) if pattern.fullmatch(path)]
        for i in hits:
            matching[i] += 1
        if hits:
            deciding[hits[0]] += 1
        values[path] = compiled[hits[0]][2] if hits else default
    for i, (regex, _, _) in enumerate(compiled):
        if not matching[i]:
            raise ConfigError(f"{where}: {regex!r} matches no parameter; components: {', '.join(sorted(heads))}")
        if not deciding[i]:
            raise ConfigError(f"{where}: {regex!r} has no effect, since earlier rules match all that it matches")
    return values


def select(params: Params, patterns: Sequence[str], where: str = "trainable") -> Params:
    """A tree of bool like `params` (arrays or ShapeDtypeStructs): whether a leaf is trained.

    Raises:
      ConfigError: a pattern is malformed or is the first match of no leaf, or no leaf is trained.
    """
    if isinstance(patterns, str):
        raise ConfigError(f"{where}: expected a sequence of patterns, got the string {patterns!r}")
    rules = [(pattern.removeprefix("!"), not pattern.startswith("!")) for pattern in patterns]
    trained = assign(paths.flatten(params), rules, False, where)
    if not any(trained.values()):
        raise ConfigError(f"{where}: no parameter is trained")
    return paths.replace(params, trained)


def partition(params: Params, trainable: Params) -> tuple[Params, Params]:
    """Splits nested dicts into (trained, frozen), each without the other's leaves.

    Args:
      params: nested dicts of arrays.
      trainable: the same of bool, from `select`.

    Raises:
      ValueError: the two trees have different paths.
    """
    flags = paths.flatten(trainable)
    leaves = paths.flatten(params)
    if flags.keys() != leaves.keys():
        raise ValueError(f"params and trainable differ at {min(flags.keys() ^ leaves.keys())}")
    trained, frozen = (
        paths.nest({p: leaf for p, leaf in leaves.items() if flags[p] is kind}) for kind in (True, False)
    )
    return trained, frozen


def merge(*parts: Params) -> Params:
    """Merges trees with disjoint leaves: the inverse of `partition`.

    Raises:
      ValueError: two parts hold the same leaf.
    """
    merged: dict[str, Any] = {}
    for part in parts:
        leaves = paths.flatten(part)
        if merged.keys() & leaves.keys():
            raise ValueError(f"{min(merged.keys() & leaves.keys())} is in two parts")
        merged |= leaves
    return paths.nest(merged)


def summary(
    params: Params,
    trainable: Params,
    multipliers: dict[str, float] | None = None,
    decayed: dict[str, bool] | None = None,
    depth: int = 2,
) -> str:
    """The resolved rules as a table, one line per prefix of `depth` keys and treatment of its leaves.

    Args:
      params: arrays or ShapeDtypeStructs.
      trainable: from `select`.
      multipliers: learning-rate multipliers of trained leaves by path, 1 where absent (`optimizer.multipliers`).
      decayed: whether weight decay applies to a trained leaf, by path (`optimizer.decayed`).
      depth: number of leading keys of a prefix.
    """
    trained, multipliers, decayed = paths.flatten(trainable), multipliers or {}, decayed or {}
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for path, leaf in paths.flatten(params).items():
        prefix = "/".join(path.split("/")[:-1][:depth]) or path
        if trained[path]:
            treatment = "trained", f"{multipliers.get(path, 1.0):g}", "yes" if decayed.get(path) else "no"
        else:
            treatment = "frozen", "", ""
        groups[prefix, *treatment].append(math.prod(leaf.shape))
    lines = [("parameters", "leaves", "numbers", "", "lr ×", "decay")]
    for (prefix, kind, factor, decay), sizes in groups.items():
        lines.append((prefix, str(len(sizes)), f"{sum(sizes):,}", kind, factor, decay))
    for kind in ("trained", "frozen"):
        sizes = [n for key, group in groups.items() if key[1] == kind for n in group]
        lines.append(("total", str(len(sizes)), f"{sum(sizes):,}", kind, "", ""))
    return table(lines, right=(1, 2, 4))
