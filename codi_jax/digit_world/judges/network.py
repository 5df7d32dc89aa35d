"""Judges: small classifiers of the factors of a modality, trained on samples that no generator was trained on.

Each head has one class more than its factor has values: `unreadable`. In training, some samples are degraded with a
severity s ~ U(0, 1), in one of the ways in which generators fail,

    noise        cos(πs/2) x + sin(πs/2) σ n, n ~ N(0, I), σ the standard deviation of x about its mean
    blur         a Gaussian of width MAX_BLUR · s of the side
    blend        (1 - s) x + s · mean of three other samples, as from a generator that averages over modes
    both         blend, then blur
    noise_floor  max(x, floor + noise), the floor at the fraction s between the minimum and maximum of x, as white noise
                 in a waveform appears in its spectrogram

and the target moves from the value to `unreadable` with u = clip((s - .4) / .3, 0, 1):

    L = Σ_factors CE(head_f(features(degraded x)), (1 - u) onehot(f) + u · unreadable)

So a judge gives no credit to samples that only resemble a digit. The features, those of the last hidden layer, are also
used for a Fréchet distance, which is not FID.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from codi_jax.config import config_class
from codi_jax.metrics.agreement import UNREAD
from codi_jax.nn.calls import apply
from codi_jax.rng import fold
from codi_jax.types import Array


def component(modality: str) -> str:
    """Component name of the judge of a modality."""
    return f"{modality}_judge"


@config_class()
class JudgeConfig:
    """Attributes:
    factors: factor -> number of its values.
    channels: widths of the convolutions, each of stride 2.
    features: F, width of the last hidden layer.
    dropout: dropout rate on the features in training.
    noise: standard deviation of Gaussian noise on the media in training, so that a judge does not depend on details
      that no codec preserves.
    degraded: fraction of the training samples that are degraded.
    survive_blur: factors that stay readable in a blurred sample.
    """

    factors: dict[str, int]
    channels: tuple[int, ...] = (24, 48, 96)
    features: int = 96
    dropout: float = 0.2
    noise: float = 0.1
    degraded: float = 0.5
    survive_blur: tuple[str, ...] = ()


class Judge(nn.Module):
    """Strided convolutions over [B, *space, C] and one linear head per factor; the frames of a video are channels."""

    config: JudgeConfig

    @nn.compact
    def __call__(self, media: Array, key: jax.Array | None = None) -> tuple[dict[str, Array], Array]:
        """Logits by factor [B, values + 1], the last for `unreadable`, and features [B, F].

        Noise and dropout are applied if a key is given.
        """
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
        return {name: nn.Dense(size + 1, name=name)(head) for name, size in config.factors.items()}, x


MAX_BLUR = 0.2  # width of the strongest blur, relative to the side
DEGRADATIONS = ("noise", "blur", "blend", "both", "noise_floor")
FLOOR_NOISE = 0.3  # standard deviation of the noise floor, relative to σ


def gaussian_blur(media: Array, width: Array) -> Array:
    """Blurs media [B, *space, C] over its last one or two spatial axes; widths [B] are relative to the sides."""
    axes = (-3, -2) if media.ndim > 3 else (-2,)
    frequencies = [jnp.fft.fftfreq(media.shape[axis]) * media.shape[axis] for axis in axes]  # cycles per side
    square = frequencies[-1] ** 2
    if len(axes) == 2:
        square = frequencies[0][:, None] ** 2 + square
    shape = (-1, *(1,) * (media.ndim - 1))
    gain = jnp.exp(-2 * jnp.pi**2 * width.reshape(shape) ** 2 * square[..., None])
    return jnp.fft.ifftn(jnp.fft.fftn(media, axes=axes) * gain, axes=axes).real


def degrade(media: Array, kind: Array, severity: Array, key: jax.Array) -> Array:
    """Degrades media [B, *space, C] by kind [B], an index into `DEGRADATIONS`, and severity [B] in [0, 1]."""
    shape = (-1, *(1,) * (media.ndim - 1))
    s = severity.reshape(shape)
    is_kind = {name: (kind == i).reshape(shape) for i, name in enumerate(DEGRADATIONS)}
    axes = tuple(range(1, media.ndim))
    mean, std = media.mean(axes, keepdims=True), media.std(axes, keepdims=True)
    noise = std * jax.random.normal(key, media.shape, media.dtype)
    noisy = mean + jnp.cos(jnp.pi / 2 * s) * (media - mean) + jnp.sin(jnp.pi / 2 * s) * noise
    others = sum(jnp.roll(media, i, axis=0) for i in (1, 2, 3)) / 3
    blended = jnp.where(is_kind["blend"] | is_kind["both"], (1 - s) * media + s * others, media)
    soft = gaussian_blur(blended, jnp.where((kind == DEGRADATIONS.index("blend")), 0.0, MAX_BLUR * severity))
    least, most = media.min(axes, keepdims=True), media.max(axes, keepdims=True)
    floored = jnp.maximum(media, least + s * (most - least) + jnp.minimum(s / 0.1, 1) * FLOOR_NOISE * noise)
    return jnp.where(is_kind["noise"], noisy, jnp.where(is_kind["noise_floor"], floored, soft))


def loss(judge: Judge, name: str, variables: Mapping, batch: Mapping, key: jax.Array) -> tuple[Array, dict[str, Array]]:
    """Cross-entropy of a batch {"media", "factors"}, and accuracy by factor on the samples that are not degraded."""
    config, media, key = judge.config, batch["media"], fold(key, "judge")
    size = media.shape[0]
    kind = jax.random.randint(fold(key, "kind"), (size,), 0, len(DEGRADATIONS))
    degraded = jax.random.bernoulli(fold(key, "degraded"), config.degraded, (size,))
    severity = jnp.where(degraded, jax.random.uniform(fold(key, "severity"), (size,)), 0.0)
    media = degrade(media, kind, severity, fold(key, "noise"))
    logits, _ = apply(Judge.__call__, judge, variables["params"][name], media, key)
    unreadable = jnp.clip((severity - 0.4) / 0.3, 0, 1)
    total, metrics = 0.0, {}
    for factor, values in logits.items():
        labels, count = batch["factors"][factor], config.factors[factor]
        u = (
            jnp.where(kind == DEGRADATIONS.index("blur"), 0.0, unreadable)
            if factor in config.survive_blur
            else unreadable
        )
        target = (1 - u)[:, None] * jax.nn.one_hot(labels, count + 1) + u[:, None] * jax.nn.one_hot(count, count + 1)
        total += optax.softmax_cross_entropy(values, target).mean()
        correct = (values.argmax(-1) == labels) & ~degraded
        metrics[f"accuracy/{factor}"] = correct.sum() / jnp.maximum((~degraded).sum(), 1)
    return jnp.asarray(total), metrics


def read(judge: Judge, params: Mapping, media: Array) -> tuple[dict[str, Array], Array]:
    """The most likely value by factor [B], UNREAD if it is `unreadable`, and features [B, F]."""
    logits, features = apply(Judge.__call__, judge, params, jnp.asarray(media))
    best = {factor: values.argmax(-1) for factor, values in logits.items()}
    return {f: jnp.where(x == judge.config.factors[f], UNREAD, x) for f, x in best.items()}, features
