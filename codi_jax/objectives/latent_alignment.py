"""Latent alignment (stage 2) of a pair (A, B): environment encoders V and cross-modal attention X, denoisers frozen.

    L = ‖target_A - f_A(z^A_{t_A}, V_B(z^B_{t_B}, t_B), t_A, C(y))‖² + (A ↔ B) + λ · align(V_A, V_B)

t_A and t_B are drawn independently by default; the paper shares one t. `align` is

    anchor        ‖V_A(z^A_t, t) - c̄_B‖² + (A ↔ B)      c̄: the centred stage-1 embedding of the partner (default),
                                                         of the modality itself (`target: own`), or of one modality
                                                         for all (`target: text`)
    contrastive   symmetric InfoNCE of the unit-norm pooled tokens of A and B at a fixed temperature (the paper)

The anchor puts the tokens of all modalities into one aligned space, so that outputs which were never trained together
can attend to each other. If the partner carries less information than the modality itself, regressing the partner's
embedding would make V_A discard the rest; then `target: own` is better. If one modality shows all that they share,
name it: every V then is E[c̄ of that modality | z_t, t], on one scale, so that X_A reads tokens of outputs that were
never trained beside A as it reads those of its partners. It has to be in every pair; with `optional_target` pairs
without it train X, and V is anchored by the others. If E > D, c̄ is projected to E dimensions by a fixed matrix with
orthonormal rows.

Tokens in one space do not suffice: X_A learns to read only what its partner B shows. X of a video that is trained
beside audio never sees colour in an environment, and would not take it from a text or an image. With `own_share` s > 0
the environment of A in training is

    (1 - u) V_B(z^B_{t_B}, t_B) + u V_A(z'^A_{t'}, t'),     u ~ U(0, s)

where z' has another noise and another noise level than z^A_{t_A}. A itself shows all that A can show, so X_A learns to
read all of it, at every noise level; other outputs show it in the same place of the space. No further pairs are needed.

Tokens of different modalities lie near each other, but not in one place, and X_A learns the place of its partner: the
longer it is trained, the better it agrees with B and the worse with other outputs. `environment_noise` σ > 0 hides the
difference in training, as noise of the prompts does for the denoiser (`PromptConfig.noise`): V_B + σ ε, ε ~ N(0, I),
takes the place of V_B.
"""

import dataclasses
from functools import lru_cache
from itertools import combinations
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, config_class, from_dict
from codi_jax.modalities.base import TIMING
from codi_jax.objectives import conditioning, ring
from codi_jax.objectives.base import (
    SETTINGS,
    BatchObjective,
    LossTerms,
    StageSpec,
    init_by_model,
    loss_scalars,
    no_statistics,
    refuse_accumulation,
    refuse_lacking,
    register,
)
from codi_jax.objectives.batches import EncodedBatches, MediaBatches, batches_of, pair_of
from codi_jax.objectives.bridging import infonce
from codi_jax.objectives.conditioning import Encoded, PromptConfig
from codi_jax.objectives.ldm import prediction_loss
from codi_jax.rng import fold
from codi_jax.types import Array, Tokens


@config_class()
class LatentAlignmentConfig:
    """Settings of one pair.

    Attributes:
      losses: modalities whose diffusion losses are summed; those that a batch lacks are skipped.
      aligned: modalities whose V is trained by `align`.
      prompts: the prompts; where the prompt is dropped, the environment tokens are the only condition.
      timesteps: `independent` or `shared`.
      align: `anchor`, `contrastive` or `none`; align_weight is λ.
      target: the embedding that the anchor regresses: the `partner`'s, the modality's `own`, or that of the modality
        of this name, which has to be in every pair.
      optional_target: whether pairs may lack `target`; V is not anchored by them.
      own_share: largest share of V of the modality itself in its environment, 0 to 1; see above.
      environment_noise: standard deviation of the noise on the partner's tokens that a denoiser reads, in units of
        the anchor's target, whose standard deviation is 1; see above.
      timed: whether denoisers attend to tokens with a time, too (`nn.timing`); `trainable` then names attention in
        time, whose encoders a stage before has trained (`objectives.timing`).
      temperature: of the contrastive loss.
      ring: whether to compute the contrastive loss on a ring of devices (`objectives.ring`).
      min_snr: γ of the min-SNR weights; 0 for none.
    """

    losses: tuple[str, ...]
    aligned: tuple[str, ...]
    prompts: PromptConfig
    timesteps: Literal["independent", "shared"] = "independent"
    align: Literal["anchor", "contrastive", "none"] = "anchor"
    align_weight: float = 1.0
    target: str = "partner"
    optional_target: bool = False
    own_share: float = 0.0
    environment_noise: float = 0.0
    timed: bool = False
    temperature: float = 0.07
    ring: bool = False
    min_snr: float = 0.0

    def __post_init__(self):
        if not 0 <= self.own_share <= 1:
            raise ConfigError(f"own_share: expected a number between 0 and 1, got {self.own_share}")
        if self.environment_noise < 0:
            raise ConfigError(f"environment_noise: expected a number of at least 0, got {self.environment_noise}")

    def environments(self, pair: tuple[str, str]) -> tuple[str, ...]:
        """The modalities of the pair whose environment tokens the loss reads."""
        if self.align == "contrastive":
            return pair
        read = {other for name, other in (pair, pair[::-1]) if name in self.losses}
        if self.own_share:
            read |= set(self.losses)
        return tuple(name for name in pair if name in read or (self.align == "anchor" and name in self.aligned))


@lru_cache
def orthonormal_projection(width: int, environment_width: int) -> np.ndarray:
    """Fixed [D, E] matrix: the identity if D = E, else random orthonormal rows (E > D) from seed 0.

    Raises:
      ValueError: E < D.
    """
    if width == environment_width:
        return np.eye(width, dtype=np.float32)
    if environment_width < width:
        raise ValueError(f"environment width {environment_width} must be at least the prompt width {width}")
    gaussian = np.random.default_rng(0).normal(size=(environment_width, width))
    return np.linalg.qr(gaussian)[0].T.astype(np.float32)


def anchor(tokens: Array, embedding: Array) -> Array:
    """Mean squared difference of tokens [B, K, E] and an embedding [B, D] projected to E dimensions."""
    target = embedding @ orthonormal_projection(embedding.shape[-1], tokens.shape[-1])
    return jnp.square(tokens.astype(jnp.float32) - target[:, None]).mean()


def contrastive(a: Array, b: Array, temperature: float, on_ring: bool = False) -> Array:
    """InfoNCE of the unit-norm means over K of tokens a and b, [B, K, E]."""
    a, b = (x.astype(jnp.float32).mean(1) for x in (a, b))
    a, b = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    scale = jnp.float32(1 / temperature)
    return ring.infonce(a, b, scale).loss if on_ring else infonce(a, b, scale)


def environment(
    codi: CoDi,
    name: str,
    config: LatentAlignmentConfig,
    variables: dict,
    encoded: Encoded,
    partner: tuple[str, Array],
    key: jax.Array,
) -> Tokens:
    """The environment of a modality in training: tokens of its partner [B, K, E], mixed with its own at another t."""
    other, read = partner
    if config.environment_noise:
        noise = jax.random.normal(fold(key, name, "environment noise"), read.shape, read.dtype)
        read += config.environment_noise * noise
    if not config.own_share:
        return codi.mix_environment([(other, read)], jnp.ones(1), config.timed)
    size, own_key = read.shape[0], fold(key, "own environment")
    t = conditioning.timesteps(codi, size, own_key, name)
    sample = conditioning.add_noise(codi, name, encoded, t, own_key)
    # V is trained by what its partner needs and by `align`; here it is only read.
    own = jax.lax.stop_gradient(codi[name].environment_tokens(variables, sample.z_t, t, config.timed))
    share = jax.random.uniform(fold(own_key, name, "share"), (size,), maxval=config.own_share)
    return codi.mix_environment([(other, read), (name, own)], jnp.stack([1 - share, share]), config.timed)


def loss(
    codi: CoDi,
    pair: tuple[str, str],
    config: LatentAlignmentConfig,
    variables: dict,
    batch: dict[str, Encoded],
    key: jax.Array,
) -> LossTerms:
    """Loss of an encoded batch of pairs, and its terms "loss/NAME" and "align/NAME" (or "align") as metrics."""
    partner = dict(zip(pair, reversed(pair), strict=True))
    size = batch[pair[0]].mean.shape[0]
    samples, tokens = {}, {}
    for name in pair:
        t = conditioning.timesteps(codi, size, key, name if config.timesteps == "independent" else "shared")
        samples[name] = conditioning.add_noise(codi, name, batch[name], t, key)
        if name in config.environments(pair):
            tokens[name] = codi[name].environment_tokens(variables, samples[name].z_t, t, config.timed)

    denoising, aligning = {}, {}
    # Both outputs get the same prompt, since they belong to one sample.
    context = conditioning.context(codi, config.prompts, variables, batch, key, "+".join(pair))
    for name in (name for name in config.losses if name in pair):
        sample, read = samples[name], (partner[name], tokens[partner[name]])
        mixed = environment(codi, name, config, variables, batch[name], read, key)
        prediction = codi[name].denoise(variables, sample.z_t, sample.t, context, mixed, jnp.ones((size,)))
        denoising[f"loss/{name}"] = prediction_loss(codi, prediction, sample, config.min_snr)
    if config.align == "anchor":
        for name in (name for name in config.aligned if name in pair):
            target = {"partner": partner[name], "own": name}.get(config.target, config.target)
            if target in pair:
                aligning[f"align/{name}"] = anchor(tokens[name], batch[target].full)
            elif not config.optional_target:
                raise ConfigError(f"latent_alignment: target {target} is not in a batch of {' and '.join(pair)}")
    elif config.align == "contrastive":
        aligning["align"] = contrastive(tokens[pair[0]], tokens[pair[1]], config.temperature, config.ring)
    total = sum(denoising.values(), 0.0) + config.align_weight * sum(aligning.values(), 0.0)
    return LossTerms(jnp.asarray(total), {**denoising, **aligning})


@register("latent_alignment")
@dataclasses.dataclass(frozen=True, eq=False)
class LatentAlignmentObjective(BatchObjective):
    """Trains V and X of pairs of modalities.

    Attributes:
      codi: the model.
      modalities: a pair, or more, of which every batch holds a pair.
      config: of the loss.
      batches: of the modalities.
      accumulate: number of microbatches.
    """

    codi: CoDi
    modalities: tuple[str, ...]
    config: LatentAlignmentConfig
    batches: EncodedBatches | MediaBatches
    accumulate: int = 1

    batch_multiple = 1
    init = init_by_model
    validation = loss_scalars
    statistics = no_statistics

    @classmethod
    def from_stage(cls, codi: CoDi, stage: StageSpec) -> "LatentAlignmentObjective":
        config, names = from_dict(LatentAlignmentConfig, stage.settings, SETTINGS), stage.modalities
        refuse_lacking(stage, names)
        if config.target not in (known := ("partner", "own", *names)):
            raise ConfigError(f"{SETTINGS}.target: expected one of {', '.join(known)}, got {config.target!r}")
        if config.timed and (config.aligned or not any(codi[name].timed_tokens for name in names)):
            why = "V is aligned by the stages before" if config.aligned else "no modality has attention in time"
            raise ConfigError(f"{SETTINGS}.timed: {why}; leave out {'aligned' if config.aligned else 'timed'}")
        if config.align == "contrastive":
            refuse_accumulation(stage, "align: contrastive")
        return cls(codi, names, config, batches_of(codi, stage, in_pairs=True), stage.accumulate)

    @property
    def components(self) -> tuple[str, ...]:
        codi, losses = self.codi, self.config.losses
        timing = (TIMING,) if self.config.timed else ()
        pairs = list(combinations(self.modalities, 2))
        read = [name for name in self.modalities if any(name in self.config.environments(pair) for pair in pairs)]
        return (
            *codi.components_of(("environment", *timing), read),
            # V uses the time embedding of its modality's denoiser.
            *codi.components_of(("denoiser",), dict.fromkeys((*losses, *read))),
            *codi.components_of(("cross", *timing), losses),
            *self.batches.components,
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.modalities if self.config.losses else ()

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        pair, encoded = pair_of(self.modalities, batch), self.batches.encode(variables, batch)
        return loss(self.codi, pair, self.config, variables, encoded, key)
