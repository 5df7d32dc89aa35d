"""Latent diffusion of one modality (stage "ldm").

    L = E ‖target(z, ε, t) - f_θ(z_t, t, C(y))‖²,    t ~ U{0..T-1}, target ε, v, x0 or the flow's velocity

optionally with min-SNR-γ weights, or with timesteps shifted towards noise (`conditioning.timesteps`). The stages of the
four modalities are independent of each other.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import config_class, from_dict
from codi_jax.diffusion import losses, process
from codi_jax.objectives import conditioning
from codi_jax.objectives.base import (
    SETTINGS,
    BatchObjective,
    LossTerms,
    StageSpec,
    init_by_model,
    no_statistics,
    refuse_lacking,
    register,
)
from codi_jax.objectives.batches import EncodedBatches, MediaBatches, batches_of
from codi_jax.objectives.conditioning import Encoded, NoisySample, PromptConfig
from codi_jax.types import Array


@config_class()
class LDMConfig:
    """`min_snr` is γ of the min-SNR weights, 0 for none; `shift` > 1 draws more timesteps with much noise."""

    prompts: PromptConfig
    shift: float = 1.0
    min_snr: float = 0.0


def prediction_loss(codi: CoDi, prediction: Array, sample: NoisySample, min_snr: float) -> Array:
    """Mean diffusion loss of a prediction at (z_t, t), with min-SNR weights if `min_snr` > 0."""
    kind = codi.config.prediction
    target = process.target(codi.schedule, sample.z, sample.noise, sample.t, kind)
    weight = losses.min_snr_weight(codi.schedule, sample.t, kind, min_snr or None)
    return losses.diffusion_loss(prediction, target, weight).mean()


LEVELS = 8  # number of ranges of t in `loss_by_timestep`


def loss_by_timestep(
    codi: CoDi, name: str, config: LDMConfig, variables: dict, batch: dict[str, Encoded], key: jax.Array
):
    """Mean diffusion loss of a batch whose B timesteps are spread evenly over all t, and by ranges of t.

    Prompts are neither dropped nor noised, and losses are not weighted.

    Returns:
      {"loss": over all samples, "loss/t0-124": over the samples with these t, …}; ranges without samples are omitted.
    """
    size, steps = batch[name].mean.shape[0], codi.schedule.steps
    prompts = dataclasses.replace(config.prompts, drop=0.0, noise=0.0)
    context = conditioning.context(codi, prompts, variables, batch, key, name)
    t = np.arange(size) * steps // size
    sample = conditioning.add_noise(codi, name, batch[name], jnp.asarray(t, jnp.int32), key)
    prediction = codi[name].denoise(variables, sample.z_t, sample.t, context)
    target = process.target(codi.schedule, sample.z, sample.noise, sample.t, codi.config.prediction)
    each = losses.diffusion_loss(prediction, target, jnp.float32(1))
    out = {"loss": each.mean()}
    for k in range(LEVELS):
        first, end = k * steps // LEVELS, (k + 1) * steps // LEVELS
        rows = (t >= first) & (t < end)
        if rows.any():
            out[f"loss/t{first}-{end - 1}"] = each[rows].mean()
    return out


def loss(
    codi: CoDi, name: str, config: LDMConfig, variables: dict, batch: dict[str, Encoded], key: jax.Array
) -> LossTerms:
    """Diffusion loss of an encoded batch that holds `name` and the prompt sources."""
    context = conditioning.context(codi, config.prompts, variables, batch, key, name)
    t = conditioning.timesteps(codi, context.values.shape[0], key, name, config.shift)
    sample = conditioning.add_noise(codi, name, batch[name], t, key)
    prediction = codi[name].denoise(variables, sample.z_t, t, context)
    return LossTerms(prediction_loss(codi, prediction, sample, config.min_snr), {})


@register("ldm")
@dataclasses.dataclass(frozen=True, eq=False)
class LDMObjective(BatchObjective):
    """Trains the denoiser of one modality.

    Attributes:
      codi: the model.
      name: the modality.
      config: of the loss.
      batches: of `name` and of the modalities that prompt it.
      accumulate: number of microbatches.
    """

    codi: CoDi
    name: str
    config: LDMConfig
    batches: EncodedBatches | MediaBatches
    accumulate: int = 1

    batch_multiple = 1
    init = init_by_model
    statistics = no_statistics

    @classmethod
    def from_stage(cls, codi: CoDi, stage: StageSpec) -> "LDMObjective":
        config, names = from_dict(LDMConfig, stage.settings, SETTINGS), stage.modalities
        refuse_lacking(stage, names[:1])  # the others are prompts, of which those are drawn that a sample has
        batches = batches_of(codi, stage)
        return cls(codi, names[0], config, batches, stage.accumulate)

    @property
    def components(self) -> tuple[str, ...]:
        return self.codi.components_of(("denoiser",), (self.name,)) + self.batches.components

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.name,)

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        return loss(self.codi, self.name, self.config, variables, self.batches.encode(variables, batch), key)

    def validation(self, variables: dict, batch: dict, key: jax.Array) -> dict[str, Array]:
        """The loss by ranges of timesteps."""
        encoded = self.batches.encode(variables, batch)
        return loss_by_timestep(self.codi, self.name, self.config, variables, encoded, key)
