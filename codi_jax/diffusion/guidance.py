"""Guidance: several predictions of the same latent, combined into one.

The network of an output is called on branches that differ in what it may see: the prompt or the null prompt, and the
other outputs (its environment) or nothing. With u the branch that sees nothing, c the prompt and c_env both,

    p = u + s (c - u) + g (c_env - c)                                           (1)
      = (1 - s) u + (s - g) c + g c_env                                         (2)

s is classifier-free guidance (Ho and Salimans, arXiv 2207.12598) and g the same idea for the environment, one after the
other as in Brooks et al. (arXiv 2211.09800, equation 3). s = g = 1 is the network as trained. The release of CoDi has
two branches, both with the environment, and s alone:

    p = (1 - s) u_env + s c_env                                                 (3)

Kynkäänniemi et al. (arXiv 2404.07724) found guidance harmful at high noise and useless at low: outside an interval of t
both scales are 1.

The coefficients always sum to one, so that it does not matter which kind of prediction is combined (process, eq. 3).
They are data: changing a scale or the interval compiles nothing anew.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from codi_jax.types import Array


class Branch(NamedTuple):
    """What the network sees in one of the calls that are combined."""

    prompt: bool
    environment: bool


JOINT = (Branch(False, False), Branch(True, False), Branch(True, True))  # (2)
RELEASE = (Branch(False, True), Branch(True, True))  # (3)
ALONE = (Branch(False, False), Branch(True, False))  # (2) for an output that has no others beside it


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Guidance:
    """Scales of one output; a pytree of scalars.

    Attributes:
      prompt: s of (1).
      environment: g of (1); read by `JOINT` branches only.
      low, high: the scales hold for low <= t <= high.
    """

    prompt: float = 1.0
    environment: float = 1.0
    low: float = 0.0
    high: float = float("inf")


def coefficients(guidance: Guidance, t: Array, branches: tuple[Branch, ...] = JOINT) -> Array:
    """The coefficients of (2) or (3) in the order of `branches`.

    Args:
      guidance: the scales.
      t: noise level, of shape [] or [B].
      branches: JOINT, RELEASE or ALONE.

    Returns:
      [k] or [k, B], float32.
    """
    if branches not in (JOINT, RELEASE, ALONE):
        raise ValueError(f"guidance is not defined for the branches {branches}")
    t = jnp.asarray(t)
    inside = (guidance.low <= t) & (t <= guidance.high)
    s = jnp.where(inside, guidance.prompt, 1.0).astype(jnp.float32)
    g = jnp.where(inside, guidance.environment, 1.0).astype(jnp.float32)
    return jnp.stack([1 - s, s - g, g] if branches == JOINT else [1 - s, s])


def combine(stacked: Array, coefficients: Array) -> Array:
    """Σ_k coefficient_k · prediction_k.

    Args:
      stacked: [k, B, ...], predictions of the branches.
      coefficients: [k] or [k, B].

    Returns:
      [B, ...], float32 or wider.
    """
    # A sum of products, not a matrix product, which accelerators would round to bf16.
    coefficients = coefficients.reshape(coefficients.shape + (1,) * (stacked.ndim - coefficients.ndim))
    return jnp.sum(coefficients * stacked, axis=0)
