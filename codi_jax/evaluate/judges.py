"""Judges: small networks that read the factors off a modality's media, trained on samples that no generator has seen.

    L = Σ_factors CE(head_f(features(x)), f)

The features, the last hidden layer, also serve for a Fréchet distance, which is named for its judge and never FID.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from codi_jax.rng import fold
from codi_jax.types import Array


def component(modality: str) -> str:
    """Name of the component that holds the judge of a modality."""
    return f"{modality}_judge"


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """Attributes:
    factors: factor -> number of its values.
    channels: widths of the convolutions, each of stride 2.
    features: width of the last hidden layer.
    dropout: on it, while training.
    noise: standard deviation of Gaussian noise on the media while training, so that a judge does not lean on pixels
      that no codec keeps.
    """

    factors: dict[str, int]
    channels: tuple[int, ...] = (24, 48, 96)
    features: int = 96
    dropout: float = 0.2
    noise: float = 0.1


class Judge(nn.Module):
    """Strided convolutions over [B, *space, C], one linear head a factor; the frames of a clip are channels."""

    config: JudgeConfig

    @nn.compact
    def __call__(self, media: Array, key: jax.Array | None = None) -> tuple[dict[str, Array], Array]:
        """Logits by factor and features [B, F]; a key turns noise and dropout on."""
        config, x = self.config, media
        if x.ndim == 5:
            x = jnp.moveaxis(x, 1, 3).reshape(*x.shape[:1], *x.shape[2:4], -1)
        rank = x.ndim - 2
        if key is not None:
            x = x + config.noise * jax.random.normal(fold(key, "noise"), x.shape)
        for width in config.channels:
            x = nn.Conv(width, (3,) * rank, (2,) * rank)(x)
            x = nn.gelu(nn.GroupNorm(width // 8)(x))
        x = nn.gelu(nn.Dense(config.features)(x.reshape(x.shape[0], -1)))
        head = x
        if key is not None:
            head = x * jax.random.bernoulli(fold(key, "dropout"), 1 - config.dropout, x.shape) / (1 - config.dropout)
        return {name: nn.Dense(size, name=name)(head) for name, size in config.factors.items()}, x


def loss(judge: Judge, name: str, variables: Mapping, batch: Mapping, key: jax.Array):
    """Cross-entropy of a batch {"media", "factors"}, and the accuracy of each factor."""
    logits, _ = judge.apply({"params": variables["params"][name]}, batch["media"], fold(key, "judge"))
    total, metrics = 0.0, {}
    for factor, values in logits.items():
        labels = batch["factors"][factor]
        total += optax.softmax_cross_entropy_with_integer_labels(values, labels).mean()
        metrics[f"accuracy/{factor}"] = (values.argmax(-1) == labels).mean()
    return total, metrics


def read(judge: Judge, params: Mapping, media: Array) -> tuple[dict[str, Array], Array]:
    """Most likely value by factor [B], and features [B, F]."""
    logits, features = judge.apply({"params": params}, jnp.asarray(media))
    return {factor: values.argmax(-1) for factor, values in logits.items()}, features
