"""Codec training: a variational autoencoder of one modality.

    L = E_{z ~ q(z|x)} [-log p(x|z)] + β · Σ_i max(KL(q(z_i|x) ‖ N(0, 1)), λ)

with the reconstruction term of the modality, β = `kl_weight` and λ = `free_bits` (nats per latent value; Kingma et al.
2016). Afterwards the codec is frozen, and the statistics of its latents become constants.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.objectives.step import TrainStep, make_train_step
from codi_jax.rng import fold


@dataclasses.dataclass(frozen=True)
class CodecConfig:
    """β and λ of the loss."""

    kl_weight: float = 1e-6
    free_bits: float = 0.0


def loss(codi: CoDi, name: str, config: CodecConfig, variables: dict, batch: dict, key: jax.Array):
    """Mean loss over the batch {name: media}, and the metrics "reconstruction", "kl" and those of the modality."""
    modality = codi[name]
    params = modality.component(variables, "codec")
    mean, logvar = (x.astype(jnp.float32) for x in modality.encode_moments(params, batch[name]))
    latent = mean + jnp.exp(0.5 * logvar) * jax.random.normal(fold(key, name, "posterior"), mean.shape)
    reconstruction, metrics = modality.reconstruction(params, batch[name], latent, fold(key, name, "reconstruction"))
    kl = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1 - logvar)
    penalty = jnp.maximum(kl, config.free_bits).reshape(kl.shape[0], -1).sum(-1)
    total = (reconstruction + config.kl_weight * penalty).mean()
    return total, {"reconstruction": reconstruction.mean(), "kl": kl.reshape(kl.shape[0], -1).sum(-1).mean(), **metrics}


def train_step(codi: CoDi, name: str, config: CodecConfig, tx, ema_decay: float, **jit_options) -> TrainStep:
    """The jitted step of this objective."""
    return make_train_step(partial(loss, codi, name, config), tx, ema_decay, **jit_options)


def latent_statistics(mean: jax.Array, logvar: jax.Array | None) -> dict[str, jax.Array]:
    """Constants {shift [C], scale [C]} that give latents zero mean and unit variance per channel.

    Args:
      mean, logvar: posterior moments [N, …, C]. The variance of z is the variance of the means plus the mean of the
        variances. `logvar` is None if z is the mean.
    """
    axes = tuple(range(mean.ndim - 1))
    variance = mean.var(axes) + (0.0 if logvar is None else jnp.exp(logvar).mean(axes))
    return {"shift": mean.mean(axes), "scale": 1 / jnp.sqrt(jnp.maximum(variance, 1e-8))}
