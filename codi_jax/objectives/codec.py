"""Codec training: a variational autoencoder of one modality.

    L = E_{z ~ q(z|x)} [-log p(x|z)] + β · Σ_i max(KL(q(z_i|x) ‖ N(0, 1)), λ)

with the reconstruction term of the modality, β = `kl_weight` and λ = `free_bits` (nats per latent value; Kingma et al.
2016). Afterwards the codec is frozen, and the statistics of its latents become constants.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.config import config_class, from_dict
from codi_jax.objectives.base import (
    SETTINGS,
    BatchObjective,
    LossTerms,
    StageSpec,
    init_by_model,
    loss_scalars,
    register,
)
from codi_jax.objectives.batches import MediaBatches
from codi_jax.parallel import distributed
from codi_jax.rng import fold


@config_class()
class CodecConfig:
    """β and λ of the loss."""

    kl_weight: float = 1e-6
    free_bits: float = 0.0


def loss(codi: CoDi, name: str, config: CodecConfig, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
    """Mean loss over the batch {name: media}, and the metrics "reconstruction", "kl" and those of the modality."""
    modality = codi[name]
    params = modality.component(variables, "codec")
    mean, logvar = (x.astype(jnp.float32) for x in modality.encode_moments(params, batch[name]))
    latent = mean + jnp.exp(0.5 * logvar) * jax.random.normal(fold(key, name, "posterior"), mean.shape)
    reconstruction, metrics = modality.reconstruction(params, batch[name], latent, fold(key, name, "reconstruction"))
    kl = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1 - logvar)
    penalty = jnp.maximum(kl, config.free_bits).reshape(kl.shape[0], -1).sum(-1)
    total = (reconstruction + config.kl_weight * penalty).mean()
    terms = {"reconstruction": reconstruction.mean(), "kl": kl.reshape(kl.shape[0], -1).sum(-1).mean()}
    return LossTerms(total, {**terms, **metrics})


def latent_statistics(mean: jax.Array, logvar: jax.Array | None) -> dict[str, jax.Array]:
    """Constants {shift [C], scale [C]} that give latents zero mean and unit variance per channel.

    Args:
      mean, logvar: posterior moments [N, …, C]. The variance of z is the variance of the means plus the mean of the
        variances. `logvar` is None if z is the mean.
    """
    axes = tuple(range(mean.ndim - 1))
    variance = mean.var(axes) + (0.0 if logvar is None else jnp.exp(logvar).mean(axes))
    return {"shift": mean.mean(axes), "scale": 1 / jnp.sqrt(jnp.maximum(variance, 1e-8))}


@register("codec")
@dataclasses.dataclass(frozen=True, eq=False)
class CodecObjective(BatchObjective):
    """Trains the codec of one modality on its media.

    Attributes:
      codi: the model.
      name: the modality.
      config: of the loss.
      accumulate: number of microbatches.
    """

    codi: CoDi
    name: str
    config: CodecConfig
    accumulate: int = 1

    outputs = ()
    batch_multiple = 1
    init = init_by_model
    validation = loss_scalars

    @classmethod
    def from_stage(cls, codi: CoDi, stage: StageSpec) -> "CodecObjective":
        (name,) = stage.modalities
        return cls(codi, name, from_dict(CodecConfig, stage.settings, SETTINGS), stage.accumulate)

    @property
    def components(self) -> tuple[str, ...]:
        return self.codi.components_of(("codec",), (self.name,))

    @property
    def batches(self) -> MediaBatches:
        return MediaBatches(self.codi, (self.name,))

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        return loss(self.codi, self.name, self.config, variables, batch, key)

    def statistics(self, variables: dict, batches: Iterable[dict]) -> dict[str, Any]:
        """Shift and scale of the latents."""
        modality = self.codi[self.name]
        moments = jax.jit(lambda v, batch: modality.encode_moments(modality.component(v, "codec"), batch[self.name]))
        parts = [distributed.fetch(moments(variables, batch)) for batch in batches]
        mean, logvar = (jnp.concatenate(x) for x in zip(*parts, strict=True))
        return {self.components[0]: latent_statistics(mean, logvar if modality.sampled_posterior else None)}
