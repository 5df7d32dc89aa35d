"""What is done with a guided prediction, so that large scales do not saturate it.

With D the x̂0 of the guided prediction and D_c that of the last branch, which has all inputs, guidance has moved D_c by
Δ = D - D_c. In this order, each for every sample by itself:

    Δ ← Δ min(1, r / rms(Δ))                                                    (1)
    Δ ← Δ - (1 - η) <Δ, D_c> / <D_c, D_c> D_c                                   (2)
    D ← D_c + Δ
    D ← φ D std(D_c) / std(D) + (1 - φ) D                                       (3)

(1) and (2) are those of adaptive projected guidance (Sadat et al., arXiv 2410.02416, section 4) without its momentum:
the part of Δ along D_c is what saturates. There r bounds c - u; here it bounds the whole move, by its root mean square,
so that it does not depend on the scale or on the size of the latent. (3) is the rescaling of Lin et al. (arXiv
2305.08891, equations 15 and 16), of x̂0 instead of the output of the network.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from codi_jax.types import Array

Adjust = Callable[[Array, Array], Array]  # (D, D_c), both [B, ...] -> D


def adjustment(rescale: float, parallel: float, limit: float) -> Adjust | None:
    """The function (1) to (3), a pytree whose leaves are the numbers; None if it would change nothing.

    Args:
      rescale: φ of (3).
      parallel: η of (2).
      limit: r of (1); 0 for none.
    """
    if rescale == 0 and parallel == 1 and limit == 0:
        return None
    return jax.tree_util.Partial(_adjust, rescale, parallel, limit or float("inf"))


def _adjust(rescale: Array, parallel: Array, limit: Array, guided: Array, conditional: Array) -> Array:
    axes, tiny = tuple(range(1, guided.ndim)), jnp.finfo(guided.dtype).tiny

    def mean(x: Array) -> Array:
        return jnp.mean(x, axis=axes, keepdims=True)

    move = guided - conditional
    move = move * jnp.minimum(1, limit / jnp.maximum(jnp.sqrt(mean(move**2)), tiny))
    along = mean(move * conditional) / jnp.maximum(mean(conditional**2), tiny)
    moved = conditional + move - (1 - parallel) * along * conditional
    ratio = jnp.std(conditional, axis=axes, keepdims=True) / jnp.maximum(jnp.std(moved, axis=axes, keepdims=True), tiny)
    return moved * (rescale * ratio + 1 - rescale)
