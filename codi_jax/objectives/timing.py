"""Training of timing encoders alone: what a partner shows at the time of a token.

The timing encoder of A makes tokens τ_k of a noisy latent, each with a time s_k (`nn.timing`). With B the partner,
z^B(s) the part of its clean latent at the time s, a frame or a column, flattened and projected by a fixed matrix P,

    L = mean_k ‖τ_k(z^A_t, t) - P z^B(s_k)‖² + (A ↔ B)

So a token of a video says what would be heard at its time, and one of audio what would be seen. It is what the anchor
is for V (`objectives.latent_alignment`), and cheap for the same reason: no denoiser is evaluated. Attention in time
alone, trained by the losses of denoisers, hardly learns an event: it is a small part of them. P has orthonormal rows,
or, if a part of the latent has more than E numbers, Gaussian columns, which keep distances nearly.
"""

import dataclasses
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, config_class, from_dict
from codi_jax.modalities.base import TIMING
from codi_jax.nn.timing import seconds
from codi_jax.objectives import conditioning
from codi_jax.objectives.base import (
    SETTINGS,
    BatchObjective,
    LossTerms,
    StageSpec,
    init_by_model,
    loss_scalars,
    no_statistics,
    refuse_lacking,
    register,
)
from codi_jax.objectives.batches import EncodedBatches, MediaBatches, batches_of, pair_of
from codi_jax.objectives.conditioning import Encoded
from codi_jax.objectives.latent_alignment import orthonormal_projection
from codi_jax.types import Array


@config_class()
class TimingObjectiveConfig:
    """The objective has no settings."""


@lru_cache
def projection(width: int, environment_width: int) -> np.ndarray:
    """P, a fixed matrix [S, E]."""
    if width <= environment_width:
        return orthonormal_projection(width, environment_width)
    gaussian = np.random.default_rng(0).normal(size=(width, environment_width))
    return (gaussian / np.sqrt(width)).astype(np.float32)


def target(codi: CoDi, name: str, partner: str, z: Array) -> Array:
    """P z^B(s_k) for the tokens of a modality.

    Args:
      codi: the model.
      name: A, whose tokens they are.
      partner: B.
      z: its clean latent [B, T, ...].

    Returns:
      [B, timed tokens of A, E].
    """
    times = seconds(codi[name].duration, codi[name].timed_tokens)
    at = np.minimum(times / codi[partner].duration * z.shape[1], z.shape[1] - 1).astype(int)
    parts = z.reshape(*z.shape[:2], -1)[:, at]
    timing = codi[name].timing_config
    assert timing is not None, "or it would have no tokens with a time"
    return parts @ projection(parts.shape[-1], timing.encoder.width)


def loss(codi: CoDi, pair: tuple[str, str], variables: dict, batch: dict[str, Encoded], key: jax.Array) -> LossTerms:
    """Loss of an encoded batch of pairs, and its terms "timing/NAME" as metrics."""
    terms = {}
    for name, partner in (pair, pair[::-1]):
        encoded = batch[name]
        t = conditioning.timesteps(codi, encoded.mean.shape[0], key, name)
        noisy = conditioning.add_noise(codi, name, encoded, t, key)
        tokens = codi[name].timing_tokens(variables, noisy.z_t, t)
        goal = target(codi, name, partner, batch[partner].mean)
        terms[f"timing/{name}"] = jnp.square(tokens - goal).mean()
    return LossTerms(jnp.asarray(sum(terms.values())), terms)


@register("timing")
@dataclasses.dataclass(frozen=True, eq=False)
class TimingObjective(BatchObjective):
    """Trains the timing encoders of pairs of modalities.

    Attributes:
      codi: the model.
      modalities: a pair, or more, of which every batch holds a pair.
      batches: of the modalities.
      accumulate: number of microbatches.
    """

    codi: CoDi
    modalities: tuple[str, ...]
    batches: EncodedBatches | MediaBatches
    accumulate: int = 1

    batch_multiple = 1
    init = init_by_model
    validation = loss_scalars
    statistics = no_statistics
    outputs = ()

    @classmethod
    def from_stage(cls, codi: CoDi, stage: StageSpec) -> "TimingObjective":
        names = stage.modalities
        from_dict(TimingObjectiveConfig, stage.settings, SETTINGS)
        refuse_lacking(stage, names)
        if timeless := [name for name in names if not codi[name].timed_tokens]:
            raise ConfigError(f"{', '.join(timeless)}: no attention in time; set config.model.modalities.NAME.timing")
        return cls(codi, names, batches_of(codi, stage, in_pairs=True), stage.accumulate)

    @property
    def components(self) -> tuple[str, ...]:
        # The encoders use the time embedding of the denoisers.
        return (*self.codi.components_of((TIMING, "denoiser"), self.modalities), *self.batches.components)

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        pair, encoded = pair_of(self.modalities, batch), self.batches.encode(variables, batch)
        return loss(self.codi, pair, variables, encoded, key)
