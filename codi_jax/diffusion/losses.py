"""The denoising loss and its weight at each timestep.

Losses of different prediction kinds are compared in x0-space. An error δp of the prediction is an error δx0 = J δp of
the latent, J = ∂x0/∂p at fixed z_t (process.x0_slope), hence

    w ‖δx0‖² = w J² ‖δp‖²                                                       (1)

and a weight in x0-space applies to every kind after multiplication by J². Min-SNR-γ (Hang et al., "Efficient diffusion
training via min-SNR weighting strategy", arXiv 2303.09556) is

    w = min(SNR, γ)                                                             (2)

which with (1) is min(1, γ/SNR) for eps, min(SNR, γ) for x0, min(SNR, γ) / (1 + √SNR)² for flow, and for v
min(SNR, γ)/(SNR + 1) if the schedule preserves the variance.
"""

import jax.numpy as jnp

from codi_jax.diffusion.process import x0_slope
from codi_jax.diffusion.schedules import Schedule
from codi_jax.types import Array


def min_snr_weight(schedule: Schedule, t: Array, kind: str, gamma: float | None = 5.0) -> Array:
    """Weight of the squared error of a prediction, shape of t.

    Args:
      schedule: the noise schedule.
      t: timesteps, 0 … T - 1.
      kind: prediction kind of the network (process.KINDS).
      gamma: γ > 0 of (2); None for weight 1 in the prediction's own space.
    """
    level = schedule.at(t)
    if gamma is None:
        return jnp.ones_like(level.alpha)
    return jnp.minimum(jnp.exp(level.log_snr), gamma) * x0_slope(level.alpha, level.sigma, kind) ** 2


def diffusion_loss(prediction: Array, target: Array, weight: Array) -> Array:
    """Weighted mean squared error of each sample, in float32 (or wider): [B].

    Args:
      prediction, target: [B, ...]; the mean is over all axes but the first.
      weight: [B] or [].
    """
    dtype = jnp.promote_types(jnp.promote_types(prediction.dtype, target.dtype), jnp.float32)
    error = prediction.astype(dtype) - target.astype(dtype)
    return weight * jnp.mean(error**2, axis=tuple(range(1, error.ndim)))
