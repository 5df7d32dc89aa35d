"""Bridging alignment (stage 1): a contrastive loss aligns every prompt encoder with that of text.

    InfoNCE   L = ½ [CE(s·A Bᵀ, diag) + CE(s·B Aᵀ, diag)],   s = exp(logit scale) ≤ cap            (Radford et al. 2021)
    SigLIP    L = -mean_i Σ_j log σ(y_ij (s·a_i·b_j + b)),    y_ij = ±1, positive on the diagonal     (Zhai et al. 2023)

a_i, b_j are unit-norm embeddings of the global batch. The number of such objectives is linear in the number of
modalities: text-image, text-audio, text-video.
"""

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, config_class, from_dict
from codi_jax.objectives import microbatch, ring
from codi_jax.objectives.base import SETTINGS, BatchObjective, LossTerms, StageSpec, loss_scalars, register
from codi_jax.objectives.batches import MediaBatches, pair_of
from codi_jax.parallel import distributed
from codi_jax.types import Array

COMPONENT = "bridging"  # the learned temperature (and bias) of the contrastive loss


@config_class()
class BridgingConfig:
    """Settings of the loss.

    Attributes:
      loss: InfoNCE or SigLIP.
      max_scale: cap on the scale s, > 0. With a low cap, small angles between embeddings cannot separate pairs, so the
        towers agree more closely and generalize better to unseen combinations of factors.
      views: modalities that have two versions, prompt and full; the loss also contrasts these with each other. Without
        it a text tower trained on images alone would drop what images do not show, such as sound, before it is frozen
        and the audio tower is aligned to it.
      ring: whether to compute the loss block by block on a ring of devices (`objectives.ring`), for batches whose
        matrix of logits does not fit in memory.
    """

    loss: Literal["infonce", "siglip"] = "infonce"
    max_scale: float = 100.0
    views: tuple[str, ...] = ()
    ring: bool = False

    def __post_init__(self):
        if self.max_scale <= 0:
            raise ConfigError(f"max_scale: {self.max_scale} is not positive")


def init(config: BridgingConfig) -> dict[str, dict[str, np.float32]]:
    """Initial parameters of the loss: scale 1/0.07 as in CLIP, or scale 10 and bias -10 as in SigLIP."""
    if config.loss == "infonce":
        return {COMPONENT: {"logit_scale": np.float32(np.log(1 / 0.07))}}
    return {COMPONENT: {"logit_scale": np.float32(np.log(10.0)), "logit_bias": np.float32(-10.0)}}


def infonce(a: Array, b: Array, scale: Array) -> Array:
    """Symmetric InfoNCE of unit-norm embeddings [B, D], row i of a matching row i of b."""
    logits = scale * jnp.einsum("id,jd->ij", a, b, preferred_element_type=jnp.float32)
    labels = jnp.arange(logits.shape[0])
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    return 0.5 * (cross_entropy(logits, labels).mean() + cross_entropy(logits.T, labels).mean())


def siglip(a: Array, b: Array, scale: Array, bias: Array) -> Array:
    """Pairwise sigmoid loss of unit-norm embeddings [B, D]."""
    logits = scale * jnp.einsum("id,jd->ij", a, b, preferred_element_type=jnp.float32) + bias
    sign = 2 * jnp.eye(logits.shape[0]) - 1
    return -jax.nn.log_sigmoid(sign * logits).sum(-1).mean()


def loss(
    codi: CoDi,
    pair: tuple[str, str],
    config: BridgingConfig,
    variables: dict,
    batch: dict,
    key: jax.Array,
    accumulate: int = 1,
) -> LossTerms:
    """Contrastive loss of a batch of media pairs, and the metrics "scale" and "retrieval" (accuracy within the batch).

    With `accumulate` > 1 the towers process the batch in this number of microbatches; the loss is over all pairs of the
    batch.
    """
    del key

    def embed(name: str, **options: Any) -> Array:
        tower = partial(codi[name].embed, codi[name].component(variables, "prompt"), **options)
        return microbatch.embedded(tower, batch[name], accumulate)

    a, b = (embed(name) for name in pair)
    temperature = variables["params"][COMPONENT]
    scale = jnp.minimum(jnp.exp(temperature["logit_scale"]), config.max_scale)

    def contrast(x: Array, y: Array) -> ring.Contrast:
        on_ring = {"infonce": ring.infonce, "siglip": ring.siglip}[config.loss]
        arguments = (x, y, scale) if config.loss == "infonce" else (x, y, scale, temperature["logit_bias"])
        if config.ring:
            return on_ring(*arguments)
        full = {"infonce": infonce, "siglip": siglip}[config.loss]
        hits = (x @ y.T).argmax(-1) == jnp.arange(x.shape[0])
        return ring.Contrast(full(*arguments), hits.mean())

    value, retrieval = contrast(a, b)
    for name in (name for name in config.views if name in pair):
        other = embed(name, untruncated=True)
        value += contrast(a if name == pair[0] else b, other).loss
    return LossTerms(value, {"scale": scale, "retrieval": retrieval})


def prompt_statistics(embeddings: Array) -> dict[str, Array]:
    """Constants {centre [D], gain []} that give embeddings [N, D] zero mean and an average variance of 1.

    Centring each modality closes the modality gap that contrastive training leaves (Liang et al. 2022).
    """
    return {
        "centre": embeddings.mean(0),
        "gain": 1 / jnp.sqrt(jnp.maximum(embeddings.var(0).mean(), 1e-12)),
    }


@register("bridging")
@dataclasses.dataclass(frozen=True, eq=False)
class BridgingObjective(BatchObjective):
    """Trains the prompt encoders of pairs of modalities.

    Attributes:
      codi: the model.
      modalities: a pair, or more, of which every batch holds a pair.
      config: of the loss.
      microbatches: in which the towers process a batch. The loss is over all pairs of the batch, so gradients are not
        accumulated.
    """

    codi: CoDi
    modalities: tuple[str, ...]
    config: BridgingConfig
    microbatches: int = 1

    accumulate = 1
    outputs = ()
    validation = loss_scalars

    @classmethod
    def from_stage(cls, codi: CoDi, stage: StageSpec) -> "BridgingObjective":
        return cls(codi, stage.modalities, from_dict(BridgingConfig, stage.settings, SETTINGS), stage.accumulate)

    @property
    def components(self) -> tuple[str, ...]:
        return (*self.codi.components_of(("prompt",), self.modalities), COMPONENT)

    @property
    def batch_multiple(self) -> int:
        return self.microbatches

    def init(self, key: jax.Array, components: tuple[str, ...]) -> dict[str, Any]:
        temperature = init(self.config) if COMPONENT in components else {}
        return {**self.codi.init(key, components), **temperature}

    @property
    def batches(self) -> MediaBatches:
        return MediaBatches(self.codi, self.modalities, in_pairs=True)

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        pair = pair_of(self.modalities, batch)
        return loss(self.codi, pair, self.config, variables, batch, key, self.microbatches)

    def statistics(self, variables: dict, batches: Iterable[dict]) -> dict[str, Any]:
        """Centre and gain of the embeddings of every modality."""
        codi = self.codi
        embed = jax.jit(lambda v, b: {n: codi[n].embed(codi[n].component(v, "prompt"), b[n]) for n in b})
        parts = [distributed.fetch(embed(variables, batch)) for batch in batches]
        embeddings = {n: jnp.concatenate([p[n] for p in parts if n in p]) for n in self.modalities}
        return {codi[n].components["prompt"]: prompt_statistics(embeddings[n]) for n in self.modalities}
