"""The dtypes in which parameters are stored and computed with, by ordered rules over their paths.

Master parameters, optimizer state and EMA are float32. A frozen component can be *stored* in bfloat16, which halves its
memory. A trained one stays float32 and can be *cast* to bfloat16 for the loss: each device casts its own shard, so that
FSDP gathers half as many bytes, and gradients are float32.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from codi_jax.config import ConfigError
from codi_jax.optim import rules
from codi_jax.parallel import paths
from codi_jax.types import Params

TYPES = ("float32", "bfloat16", "float16")


def precision(
    params: Params, trainable: Params, pairs: Any, where: str
) -> tuple[Callable[[Params], Params], Callable[[Params], Params]]:
    """Functions `(cast_frozen, cast_for_compute)` of subtrees of `params`, under ordered (regex, dtype) pairs.

    `cast_frozen` casts leaves of components without trained leaves, `cast_for_compute` those of all other components.
    So the frozen leaves of a trained component keep their precision when the component is saved.

    Args:
      params: nested dicts of arrays or ShapeDtypeStructs, {component: tree}.
      trainable: the same of bool.
      pairs: the rules; a leaf that none matches stays float32.
      where: names the rules in messages.

    Raises:
      ConfigError: a rule is malformed, is the first match of no leaf, or names an unknown dtype.
    """
    names = rules.assign(paths.flatten(params), pairs, "float32", where)
    if wrong := next((name for name in names.values() if name not in TYPES), None):
        raise ConfigError(f"{where}: {wrong!r} is none of {', '.join(TYPES)}")
    trained = {path.split("/")[0] for path, yes in paths.flatten(trainable).items() if yes}
    types = {path: jnp.dtype(name) for path, name in names.items() if name != "float32"}

    def cast(tree: Params, of_trained: bool) -> Params:
        leaves = paths.flatten(tree)
        dtypes = {p: types[p] for p in leaves if p in types and (p.split("/")[0] in trained) == of_trained}
        return paths.replace(tree, {p: x.astype(dtypes[p]) if p in dtypes else x for p, x in leaves.items()})

    return (lambda tree: cast(tree, False)), (lambda tree: cast(tree, True))


def cast_in_place(tree: Params, cast: Callable[[Params], Params]) -> Params:
    """Applies `cast` to arrays and keeps their shardings."""
    shardings = jax.tree.map(lambda x: x.sharding, tree)
    return jax.jit(cast, out_shardings=shardings)(tree) if jax.tree.leaves(tree) else tree
