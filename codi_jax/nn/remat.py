"""Rematerialization: which activations the forward pass keeps for the backward pass, which computes the others again.

    none       all that gradients need
    blocks     the input of each block: about a third more operations
    dots       besides, the results of convolutions, dense layers and attention in a block; norms, activation functions
               and attention scores are computed again: few more operations
    offload    the input of each block, in host memory (of U-Nets; other networks as with blocks)
    names      the input of each block and the activations with these names, a tuple of some of `NAMES`

A block is one of `layout`, a block of cross-modal attention, or a layer of a prompt tower.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

from codi_jax.config import ConfigError, did_you_mean
from codi_jax.types import Array

Remat = Literal["none", "blocks", "dots", "offload"] | tuple[str, ...]
BLOCK = "block"
# The first layer of a residual block, o of an attention, the hidden layer of a GEGLU.
NAMES = ("convolution", "attention", "feed_forward")

_Module = TypeVar("_Module", bound=nn.Module)
_Policy = Callable[..., Any]


def named(x: Array, name: str) -> Array:
    """Names an activation, one of `NAMES` or `BLOCK`, so that a policy can keep it."""
    return checkpoint_name(x, name)


def check(remat: Remat) -> None:
    """Raises ConfigError for a name that is none of `NAMES`."""
    for name in remat if isinstance(remat, tuple) else ():
        if name not in NAMES:
            known = ", ".join(NAMES)
            raise ConfigError(
                f"config.model.remat: no activation is called {name!r}; there are {known}{did_you_mean(name, NAMES)}"
            )


def _products(primitive: Any, *avals: Any, **params: Any) -> Any:
    """Keeps the results of convolutions and of matrix products without batch dimensions."""
    products = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return primitive.name == "conv_general_dilated" or products(primitive, *avals, **params)


def _policy(remat: Remat) -> _Policy:
    policies, names = jax.checkpoint_policies, remat if isinstance(remat, tuple) else ()
    if remat == "dots":
        return policies.save_from_both_policies(_products, policies.save_only_these_names("attention"))
    return policies.save_only_these_names(*names)


def blockwise(module: type[_Module], remat: Remat, **options: Any) -> type[_Module]:
    """The class of a block, which keeps what `remat` says.

    Args:
      module: the class.
      remat: see the module.
      **options: of `flax.linen.remat`.
    """
    return module if remat == "none" else nn.remat(module, policy=_policy(remat), **options)


def offloaded(network: Callable[..., Array], remat: Remat) -> Callable[..., Array]:
    """A function of arrays that keeps the activations named `BLOCK` in host memory, if `remat` is `offload`."""
    if remat != "offload":
        return network
    policy = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=[BLOCK],
        offload_src="device",
        offload_dst="pinned_host",
    )
    return jax.checkpoint(network, policy=policy)
