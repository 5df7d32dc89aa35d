"""The order of metrics that were read from a file.

metrics.json is sorted by key, so that the same weights give the same bytes. Code that displays the metrics restores
their order with `in_order`, and does not rely on the order of the file.
"""

import re
from collections.abc import Mapping
from typing import Any

from codi_jax.digit_world import FACTORS
from codi_jax.modalities import MODALITIES


def _rank(key: str) -> tuple[int, list[tuple[int, list[int]]]]:
    """Sort key: other keys first, then modalities and combinations of them ("A", "A+B", "A|B->C"), then factors."""
    modalities, factors = list(MODALITIES), list(FACTORS)
    sides = [re.split(r"[+|]", side) for side in key.split("->")]
    if all(name in modalities for side in sides for name in side):
        return 1, [(len(side), [modalities.index(name) for name in side]) for side in sides]
    return (2, [(1, [factors.index(key)])]) if key in factors else (0, [])


def in_order(tree: Any) -> Any:
    """Sorts the keys of metrics: modalities as in the registry, sets by size, factors as in the world.

    Other keys come first and keep their order.
    """
    if isinstance(tree, Mapping):
        return {key: in_order(tree[key]) for key in sorted(tree, key=_rank)}
    return [in_order(item) for item in tree] if isinstance(tree, list) else tree
