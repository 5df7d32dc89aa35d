"""Bridging alignment (stage 1): every prompt encoder is pulled to text by a contrastive loss.

    InfoNCE   L = ½ [CE(s·A Bᵀ, diag) + CE(s·B Aᵀ, diag)],   s = exp(logit scale) ≤ cap            (Radford et al. 2021)
    SigLIP    L = -mean_i Σ_j log σ(y_ij (s·a_i·b_j + b)),    y_ij = ±1, positive on the diagonal     (Zhai et al. 2023)

a_i, b_j are unit-norm embeddings of the global batch. The number of such objectives grows linearly with modalities:
text-image, text-audio, text-video.
"""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.objectives import parts, ring
from codi_jax.objectives.step import TrainStep, make_train_step
from codi_jax.types import Array

COMPONENT = "bridging"  # the learned temperature (and bias) of the contrastive loss


@dataclasses.dataclass(frozen=True)
class BridgingConfig:
    """The loss and the cap on its scale s.

    A low cap lets no pair be told apart by a small angle: the towers then agree more closely, and what they learn
    carries over better to combinations that they never saw.

    `views` names modalities that come in two wordings, prompt and full: these are contrasted with one another, too. A
    text tower that only ever met pictures would lose what no picture shows, before it is frozen for sound to be pulled
    to it.

    `ring` computes the loss block by block on a ring of devices (`objectives.ring`): for batches whose matrix of
    logits would not fit.
    """

    loss: Literal["infonce", "siglip"] = "infonce"
    max_scale: float = 100.0
    views: tuple[str, ...] = ()
    ring: bool = False

    def __post_init__(self):
        if self.max_scale <= 0:
            raise ConfigError(f"max_scale: {self.max_scale} is not positive")


def init(config: BridgingConfig) -> dict[str, dict[str, np.ndarray]]:
    """Parameters of the loss itself: CLIP's initial temperature 1/0.07, or SigLIP's 10 and -10."""
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
):
    """Contrastive loss of a batch of media pairs, and retrieval accuracy within the batch.

    With `accumulate` the towers see the batch in so many parts; the loss is over all of it.
    """
    del key

    def embed(name: str, **options: Any) -> Array:
        tower = partial(codi[name].embed, codi[name].component(variables, "prompt"), **options)
        return parts.embedded(tower, batch[name], accumulate)

    a, b = (embed(name) for name in pair)
    temperature = variables["params"][COMPONENT]
    scale = jnp.minimum(jnp.exp(temperature["logit_scale"]), config.max_scale)

    def contrast(x: Array, y: Array) -> ring.Contrast:
        on_ring = {"infonce": ring.infonce, "siglip": ring.siglip}[config.loss]
        arguments = (x, y, scale) if config.loss == "infonce" else (x, y, scale, temperature["logit_bias"])
        if config.ring:
            return on_ring(*arguments)
        whole = {"infonce": infonce, "siglip": siglip}[config.loss]
        hits = (x @ y.T).argmax(-1) == jnp.arange(x.shape[0])
        return ring.Contrast(whole(*arguments), hits.mean())

    value, retrieval = contrast(a, b)
    for name in (name for name in config.views if name in pair):
        other = embed(name, untruncated=True)
        value += contrast(a if name == pair[0] else b, other).loss
    return value, {"scale": scale, "retrieval": retrieval}


def train_step(
    codi: CoDi, pair: tuple[str, str], config: BridgingConfig, tx, ema_decay: float, **jit_options
) -> TrainStep:
    """The jitted step of this objective."""
    return make_train_step(partial(loss, codi, pair, config), tx, ema_decay, **jit_options)


def prompt_statistics(embeddings: Array) -> dict[str, Array]:
    """Constants {centre, gain} of a prompt encoder from embeddings [N, D]: zero mean, unit variance on average.

    Each modality's own centre closes the gap that contrastive training leaves between modalities (Liang et al. 2022).
    """
    return {
        "centre": embeddings.mean(0),
        "gain": 1 / jnp.sqrt(jnp.maximum(embeddings.var(0).mean(), 1e-12)),
    }
