"""Exponential moving average of the trained parameters, in float32.

    ema_n = d_n · ema_{n-1} + (1 − d_n) · params_n,     d_n = min(decay, (1 + n) / (10 + n)),

where n counts the applied updates from 1. The warm-up of the decay, as in Stable Diffusion, quickly forgets the initial
values: d_1 = 2/11, d_10 = 11/20, d_1000 = 0.991.
"""

import jax
import jax.numpy as jnp

from codi_jax.types import Array, PyTree


def start(params: PyTree) -> PyTree:
    """The initial average: a float32 copy of the parameters in new buffers."""
    return jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params)


def warm_decay(decay: float, updates: Array | int) -> Array:
    """d_n for the n-th applied update (from 1)."""
    n = jnp.asarray(updates, jnp.float32)
    return jnp.minimum(decay, (1 + n) / (10 + n))


def update(ema: PyTree, params: PyTree, decay: Array) -> PyTree:
    """One update of the average with the scalar `decay`."""
    return jax.tree.map(lambda e, p: e + (1 - decay) * (p.astype(jnp.float32) - e), ema, params)
