"""Shared parts of the diffusion objectives: encoded batches, prompts of training samples, noisy latents, timesteps."""

import flax.struct
import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.config import config_class
from codi_jax.diffusion import process
from codi_jax.rng import fold
from codi_jax.types import Array, Tokens


@flax.struct.dataclass
class Encoded:
    """One modality of a batch after codec and prompt encoder.

    Attributes:
      mean, std: moments of the posterior of the normalised latent, [B, *latent].
      prompt: prompt context [B, D] of the (possibly truncated) prompt.
      full: prompt context [B, D] of the untruncated target.
      present: [B], 1 where the sample has this modality, else 0; None if all samples have it.
      null: the null prompt [B, D] of an encoded batch whose model makes it by its prompt encoders; else None.
    """

    mean: Array
    std: Array
    prompt: Array
    full: Array
    present: Array | None = None
    null: Array | None = None


def encode(codi: CoDi, variables: dict, batch: dict) -> dict[str, Encoded]:
    """Encodes {modality: media} to {modality: Encoded}. Pure, so it can run in the step or once before training."""
    out = {}
    for name, media in batch.items():
        mean, std = codi[name].encode(variables, media)
        prompt, full = (codi[name].prompt(variables, media, untruncated=flag) for flag in (False, True))
        out[name] = Encoded(*(jax.lax.stop_gradient(x.astype(jnp.float32)) for x in (mean, std, prompt, full)))
    return out


@config_class()
class PromptConfig:
    """The prompts of a diffusion objective.

    Attributes:
      sources: modalities that serve as prompts; for each sample one of those that it has is drawn uniformly.
      drop: probability of the null prompt, for classifier-free guidance.
      noise: standard deviation of Gaussian noise added to the context, relative to the standard deviation of the prompt
        space. It bridges the gap between prompt modalities that this denoiser is trained with and others that are only
        aligned with them.
    """

    sources: tuple[str, ...]
    drop: float = 0.1
    noise: float = 0.0


def context(
    codi: CoDi, config: PromptConfig, variables: dict, batch: dict[str, Encoded], key: jax.Array, name: str
) -> Tokens:
    """Training context [B, 1, D] of the denoiser of `name`."""
    sources = [source for source in config.sources if source in batch]
    prompts = jnp.stack([batch[source].prompt for source in sources])
    size = prompts.shape[1]
    if any(batch[source].present is not None for source in sources):
        present = [jnp.ones(size) if (p := batch[s].present) is None else p for s in sources]
        draws = jax.random.uniform(fold(key, name, "prompt"), (len(sources), size), minval=1e-6)
        choice = (draws * jnp.stack(present)).argmax(0)
    else:
        choice = jax.random.randint(fold(key, name, "prompt"), (size,), 0, len(sources))
    prompt = prompts[choice, jnp.arange(size)]
    prompt += config.noise * jax.random.normal(fold(key, name, "prompt noise"), prompt.shape)
    saved = [null for source in sources if (null := batch[source].null) is not None]
    if len(saved) == len(sources):
        null = jnp.stack(saved)[choice, jnp.arange(size)]
    else:
        null = jnp.concatenate(list(codi.null_prompts(variables, sources, 1).values()))[choice]
    dropped = jax.random.bernoulli(fold(key, name, "prompt drop"), config.drop, (size, 1))
    return Tokens.of(jnp.where(dropped, null, prompt)[:, None])


@flax.struct.dataclass
class NoisySample:
    """A clean latent z [B, *latent], its noise, the timesteps t [B], and z_t."""

    z: Array
    noise: Array
    t: Array
    z_t: Array


def add_noise(codi: CoDi, name: str, encoded: Encoded, t: Array, key: jax.Array) -> NoisySample:
    """Samples z from the posterior and adds noise at the timesteps t [B]."""
    z = encoded.mean + encoded.std * jax.random.normal(fold(key, name, "posterior"), encoded.mean.shape)
    noise = jax.random.normal(fold(key, name, "noise"), z.shape)
    return NoisySample(z, noise, t, process.corrupt(codi.schedule, z, t, noise))


def timesteps(codi: CoDi, size: int, key: jax.Array, name: str, shift: float = 1.0) -> Array:
    """Timesteps [B], t ~ U{0, …, T-1}; a shift s maps u = t/T to s·u / (1 + (s-1)·u), towards noise if s > 1.

    The more redundant a latent is (frames of a video, pixels of a large image), the more noise it takes to hide its
    contents, and a uniform t draws few samples at those noise levels. The shift is equation (23) of Esser et al.,
    "Scaling rectified flow transformers" (arXiv 2403.03206).
    """
    total = codi.schedule.steps
    t = jax.random.randint(fold(key, name, "t"), (size,), 0, total)
    u = (t + 0.5) / total
    return (total * shift * u / (1 + (shift - 1) * u)).astype(jnp.int32)
