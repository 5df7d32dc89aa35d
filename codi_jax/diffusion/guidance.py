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

The coefficients sum to one, so that guidance commutes with conversion between prediction kinds (process, eq. 3). What
they give can be adjusted, see `diffusion.adjustment`.

A branch whose coefficient is 0 need not be evaluated: outside the interval (2) and (3) are one branch; inside, s = 1
leaves out u, s = g leaves out c, and g = 0 leaves out c_env, the only one of (2) that reads the environment. Without a
prompt u = c, and one of the two is evaluated for both. Coefficients depend on the rule and the timesteps alone, so that
the host knows `needed` branches before the networks are called. The coefficients themselves are data: a program is
compiled for its branches, not for scales.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.diffusion.adjustment import Adjust, adjustment
from codi_jax.diffusion.process import convert
from codi_jax.diffusion.schedules import Level
from codi_jax.types import Array


class Branch(NamedTuple):
    """The inputs of one of the combined predictions."""

    prompt: bool
    environment: bool


# Those with the environment are the last ones.
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
          whose leaves are the numbers of the rule, so that a compiled program can take it as an argument. It is called
          for all timesteps before the first step, and a branch is not evaluated where its coefficient is exactly 0.
        """
        ...


@runtime_checkable
class AdjustedGuidance(Guidance, Protocol):
    """A rule that changes what it has combined."""

    def adjustment(self) -> Adjust | None:
        """(x̂0 of the combination, x̂0 of the last branch), both [B, ...] -> x̂0; None to leave it as it is.

        As `coefficients`, it returns a pytree whose leaves are the numbers of the rule.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Guidance of one output: (2) or (3), with s = g = 1 outside an interval of timesteps.

    Attributes:
      prompt: s of (1).
      environment: g of (1); used by `JOINT` branches only.
      low, high: the scales apply where low · T <= t <= high · T. Outside, one branch is evaluated instead of two or
        three.
      rescale: φ, in [0, 1], how far the result is rescaled to the standard deviation of the unguided prediction; see
        `diffusion.adjustment` for this and the next two.
      parallel: η, the share that is left of the part of guidance along the unguided x̂0; 0 in adaptive projected
        guidance, 1 for classifier-free guidance.
      limit: r, the largest root mean square of what guidance adds to x̂0; 0 for none.
    """

    prompt: float = 2.0
    environment: float = 2.0
    low: float = 0.0
    high: float = 1.0
    rescale: float = 0.0
    parallel: float = 1.0
    limit: float = 0.0

    def __post_init__(self):
        if not 0 <= self.rescale <= 1:
            raise ConfigError(f"guidance: rescale: expected 0 to 1, got {self.rescale}")
        if self.limit < 0:
            raise ConfigError(f"guidance: limit: expected a positive number, or 0 for none, got {self.limit}")

    def coefficients(self, num_timesteps: int) -> Callable[[Array, tuple[Branch, ...]], Array]:
        """See `Guidance.coefficients`."""
        low, high = self.low * num_timesteps, self.high * num_timesteps
        return jax.tree_util.Partial(_coefficients, self.prompt, self.environment, low, high)

    def adjustment(self) -> Adjust | None:
        """See `AdjustedGuidance.adjustment`."""
        return adjustment(self.rescale, self.parallel, self.limit)


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


def evaluate(
    rule: Callable[[Array, tuple[Branch, ...]], Array], t: np.ndarray, branches: tuple[Branch, ...], batch: int
) -> np.ndarray:
    """The coefficients of a rule at given timesteps, on the host.

    Args:
      rule: of `Guidance.coefficients`.
      t: [R].
      branches: k of them.
      batch: B, number of samples.

    Returns:
      [R, k, B], float32 or wider.
    """
    with jax.ensure_compile_time_eval():  # also where sampling is traced
        return np.asarray(_evaluate(rule, t, branches, batch))


@partial(jax.jit, static_argnums=(2, 3))
def _evaluate(rule: Callable[..., Array], t: Array, branches: tuple[Branch, ...], batch: int) -> Array:
    def at(t: Array) -> Array:
        values = jnp.asarray(rule(jnp.full(batch, t), branches))
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        return jnp.broadcast_to(values.reshape(len(branches), -1), (len(branches), batch))

    return jax.vmap(at)(t)


def needed(coefficients: np.ndarray, branches: tuple[Branch, ...]) -> tuple[Branch, ...]:
    """The branches that have to be evaluated: those whose coefficient is not 0, for one sample at least.

    Args:
      coefficients: [k] or [k, B], numbers; see `evaluate`.
      branches: k of them.

    Returns:
      Some of `branches`, in their order; all if all coefficients are 0.
    """
    return tuple(branch for branch, own in zip(branches, coefficients, strict=True) if np.any(own)) or branches


def without_prompt(coefficients: np.ndarray, branches: tuple[Branch, ...]) -> np.ndarray:
    """The coefficients where the prompt is the null prompt: of two equal branches, the later one has both.

    Args:
      coefficients: [..., k, B].
      branches: k of them.
    """
    out = np.array(coefficients)
    for i, branch in enumerate(branches):
        for j in range(i):
            if branches[j].environment == branch.environment:
                out[..., i, :] += out[..., j, :]
                out[..., j, :] = 0
    return out


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


def guided(stacked: Array, coefficients: Array, adjust: Adjust | None, z: Array, level: Level, kind: str) -> Array:
    """The combination of the branches, adjusted if there are several; of their kind.

    Args:
      stacked, coefficients: see `combine`; the last branch has all inputs.
      adjust: of `AdjustedGuidance.adjustment`.
      z: the latent that the network received, [B, ...].
      level: its noise level.
      kind: of the predictions, of `process.KINDS`.
    """
    combined = combine(stacked, coefficients)
    if adjust is None or len(stacked) == 1:
        return combined
    x0, last = (convert(p, z, level.alpha, level.sigma, kind, "x0") for p in (combined, stacked[-1]))
    return convert(adjust(x0, last), z, level.alpha, level.sigma, "x0", kind)
