"""The forward process and the prediction kinds.

    z_t = α x0 + σ ε                                                            (1)

A prediction of any kind is a linear combination of the same two unknowns, with known coefficients a and b:

    p = a x0 + b ε                                                              (2)

    kind   a    b
    eps    0    1     the noise            Ho et al., arXiv 2006.11239
    x0     1    0     the latent itself
    v     -σ    α     the velocity         Salimans and Ho, arXiv 2202.00512
    flow  -1    1     u = ε - x0           Lipman et al., arXiv 2210.02747; here z_t = α x0 + σ (u + x0)

(1) and (2) are two equations in x0 and ε with the determinant Δ = α b - σ a. Solving them for a prediction (a, b) at
z_t and inserting the solution into the definition (a', b') of another kind gives every conversion:

    p' = ((a' b - a b') z_t + Δ' p) / Δ                                         (3)

Δ is α for eps, -σ for x0, α² + σ² for v (1 if the schedule preserves the variance), α + σ for flow (1 on the straight
path): eps does not determine x0 where α = 0, nor x0 ε where σ = 0. (3) is affine in p, and so commutes with guidance,
whose coefficients sum to one.
"""

import jax.numpy as jnp

from codi_jax.config import ConfigError
from codi_jax.diffusion.schedules import Schedule
from codi_jax.types import Array

# kind -> (a, b) of (2), as a function of α and σ
KINDS = {
    "eps": lambda alpha, sigma: (0, 1),
    "x0": lambda alpha, sigma: (1, 0),
    "v": lambda alpha, sigma: (-sigma, alpha),
    "flow": lambda alpha, sigma: (-1, 1),
}


def _definition(kind: str, alpha: Array, sigma: Array) -> tuple[Array, Array, Array]:
    """a, b and the determinant Δ of a kind."""
    if kind not in KINDS:
        raise ConfigError(f"prediction: unknown kind {kind!r}; known are {', '.join(KINDS)}")
    a, b = KINDS[kind](alpha, sigma)
    return a, b, alpha * b - sigma * a


def corrupt(schedule: Schedule, z: Array, t: Array, noise: Array) -> Array:
    """z_t of (1).

    Args:
      schedule: the noise schedule.
      z: [B, ...], latents.
      t: [] or [B], timesteps.
      noise: ε, shape of z.
    """
    level = schedule.at(t, z)
    return level.alpha * z + level.sigma * noise


def target(schedule: Schedule, z: Array, noise: Array, t: Array, kind: str) -> Array:
    """The training target of a network of this prediction kind: p of (2), shape of z. Arguments as for `corrupt`."""
    level = schedule.at(t, z)
    a, b, _ = _definition(kind, level.alpha, level.sigma)
    return a * z + b * noise


def convert(prediction: Array, z_t: Array, alpha: Array, sigma: Array, source: str, to: str) -> Array:
    """Converts a prediction from one kind to another by (3).

    Args:
      prediction: [B, ...], of kind `source`.
      z_t: the noisy latent that the network received, same shape.
      alpha, sigma: coefficients of z_t; must broadcast against it.
      source, to: 'eps', 'x0', 'v' or 'flow'.

    Raises:
      ConfigError: an unknown kind.
    """
    a, b, delta = _definition(source, alpha, sigma)
    a_to, b_to, delta_to = _definition(to, alpha, sigma)
    if source == to:  # also where Δ = 0
        return prediction
    return (a_to * b - a * b_to) / delta * z_t + delta_to / delta * prediction


def x0_slope(alpha: Array, sigma: Array, kind: str) -> Array:
    """∂x0/∂p = Δ_x0 / Δ at fixed z_t, by which an error of the prediction becomes one of x0. Shape of alpha."""
    if kind == "x0":  # also where Δ = 0
        return jnp.ones_like(alpha)
    return -sigma / _definition(kind, alpha, sigma)[2]
