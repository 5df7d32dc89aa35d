"""Guidance: several predictions for one latent, combined into one.

The denoiser of an output is evaluated on branches that differ in their inputs: the prompt or the null prompt, and the
tokens of the other outputs (its environment) or none. With u the branch without either, c with the prompt and c_env
with both,

    p = u + s (c - u) + g (c_env - c)                                           (1)
      = (1 - s) u + (s - g) c + g c_env                                         (2)

s is classifier-free guidance (Ho and Salimans, arXiv 2207.12598). g is the same for the environment; the two are
chained as in Brooks et al. (arXiv 2211.09800, equation 3). s = g = 1 is the conditional prediction. The CoDi release
has two branches, both with the environment, and only s:

    p = (1 - s) u_env + s c_env                                                 (3)

Kynkäänniemi et al. (arXiv 2404.07724) found guidance harmful at high noise levels and useless at low ones: outside an
interval of timesteps both scales are 1.

The coefficients sum to one, so that guidance commutes with conversion between prediction kinds (process, eq. 3). They
are data: another scale or interval needs no compilation.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from codi_jax.types import Array


class Branch(NamedTuple):
    """The inputs of one of the combined predictions."""

    prompt: bool
    environment: bool


JOINT = (Branch(False, False), Branch(True, False), Branch(True, True))  # (2)
RELEASE = (Branch(False, True), Branch(True, True))  # (3)
ALONE = (Branch(False, False), Branch(True, False))  # (2) for an output that is generated alone


@runtime_checkable
class Guidance(Protocol):
    """A rule that combines the predictions of the branches linearly, with coefficients that depend on the timestep."""

    def coefficients(self, num_timesteps: int) -> Callable[[Array, tuple[Branch, ...]], Array]:
        """The rule for a schedule of T = `num_timesteps` steps.

        Returns:
          (t, branches) -> coefficients [k] or [k, B] in the order of the branches, t of shape [] or [B]. It is a pytree
          whose leaves are the numbers of the rule, so that a compiled program can take it as an argument.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Guidance of one output: (2) or (3), with s = g = 1 outside an interval of timesteps.

    Attributes:
      prompt: s of (1).
      environment: g of (1); used by `JOINT` branches only.
      low, high: the scales apply where low · T <= t <= high · T.
    """

    prompt: float = 2.0
    environment: float = 2.0
    low: float = 0.0
    high: float = 1.0

    def coefficients(self, num_timesteps: int) -> Callable[[Array, tuple[Branch, ...]], Array]:
        """See `Guidance.coefficients`."""
        low, high = self.low * num_timesteps, self.high * num_timesteps
        return jax.tree_util.Partial(_coefficients, self.prompt, self.environment, low, high)


def _coefficients(
    prompt: Array, environment: Array, low: Array, high: Array, t: Array, branches: tuple[Branch, ...]
) -> Array:
    """The coefficients of (2) or (3) in the order of `branches`.

    Args:
      prompt, environment: s and g of (1).
      low, high: the interval, in timesteps.
      t: timesteps, of shape [] or [B].
      branches: JOINT, RELEASE or ALONE.

    Returns:
      [k] or [k, B], float32.

    Raises:
      ValueError: other branches.
    """
    if branches not in (JOINT, RELEASE, ALONE):
        raise ValueError(f"guidance is not defined for the branches {branches}")
    t = jnp.asarray(t)
    inside = (low <= t) & (t <= high)
    s = jnp.where(inside, prompt, 1.0).astype(jnp.float32)
    g = jnp.where(inside, environment, 1.0).astype(jnp.float32)
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
