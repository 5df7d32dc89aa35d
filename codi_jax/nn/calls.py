"""Calls of linen modules that have parameters and no other variables.

Flax types the results of `Module.apply` and `Module.init` for modules with any variables; these have the types that the
called method declares.
"""

from collections.abc import Callable, Mapping
from typing import Concatenate, ParamSpec, TypeVar

import flax.linen as nn
import jax
from flax.core import unfreeze

from codi_jax.types import Params

_Module = TypeVar("_Module", bound=nn.Module)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def apply(
    method: Callable[Concatenate[_Module, _Arguments], _Result],
    module: _Module,
    params: Mapping,
    *args: _Arguments.args,
    **options: _Arguments.kwargs,
) -> _Result:
    """`method` of a module with these parameters, such as `apply(AutoKL.encode, codec, params, pixels)`."""
    return nn.apply(method, module)({"params": params}, *args, **options)


def init(module: nn.Module, key: jax.Array, *args: object) -> Params:
    """Initial parameters of a module, traced with these arguments of its `__call__`."""
    return unfreeze(module.init(key, *args)["params"])
