"""Which parameters are stored, or used, in which type: ordered rules over their paths.

Master parameters, optimizer state and averages are float32. A component that a stage leaves alone can be *stored* in
bfloat16, which halves it. What is trained keeps its float32 and can be *used* in bfloat16: the copy that the loss sees
is made of each device's own shard, so that what FSDP gathers is half as large, and gradients come back in float32.
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
      pairs: the rules; what none matches stays float32.
      where: names the rules in messages.

    Raises:
      ConfigError: a rule that is malformed, decides over no leaf or names no floating-point type.
    """
    chosen = rules.assign(paths.flatten(params), pairs, "float32", where)
    if wrong := next((name for name in chosen.values() if name not in TYPES), None):
        raise ConfigError(f"{where}: {wrong!r} is none of {', '.join(TYPES)}")
    trained = {path.split("/")[0] for path, yes in paths.flatten(trainable).items() if yes}
    types = {path: jnp.dtype(name) for path, name in chosen.items() if name != "float32"}

    def cast(tree: Params, of_trained: bool) -> Params:
        leaves = paths.flatten(tree)
        wanted = {p: types[p] for p in leaves if p in types and (p.split("/")[0] in trained) == of_trained}
        return paths.replace(tree, {p: x.astype(wanted[p]) if p in wanted else x for p, x in leaves.items()})

    return (lambda tree: cast(tree, False)), (lambda tree: cast(tree, True))


def cast_in_place(tree: Params, cast: Callable[[Params], Params]) -> Params:
    """`cast` on arrays, each in the sharding that it has."""
    shardings = jax.tree.map(lambda x: x.sharding, tree)
    return jax.jit(cast, out_shardings=shardings)(tree) if jax.tree.leaves(tree) else tree
