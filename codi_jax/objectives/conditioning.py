"""What the diffusion objectives share: encoded batches, the prompt of a training sample, a latent at a noise level."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.diffusion import process
from codi_jax.rng import fold
from codi_jax.types import Array, Tokens


@flax.struct.dataclass
class Encoded:
    """One modality of a batch after codec and prompt encoder.

    Attributes:
      mean, std: moments of the normalised latent's posterior, [B, *latent].
      prompt: prompt context [B, D], of the (possibly truncated) prompt.
      full: prompt context [B, D] of the target itself.
      present: [B], whether the sample has this modality at all; None if all have.
    """

    mean: Array
    std: Array
    prompt: Array
    full: Array
    present: Array | None = None


def encode(codi: CoDi, variables: dict, batch: dict) -> dict[str, Encoded]:
    """Media {modality: media} to {modality: Encoded}; a pure function, to be run in a step or once for all steps."""
    out = {}
    for name, media in batch.items():
        mean, std = codi[name].encode(variables, media)
        prompt, full = (codi[name].prompt(variables, media, untruncated=flag) for flag in (False, True))
        out[name] = Encoded(*(jax.lax.stop_gradient(x.astype(jnp.float32)) for x in (mean, std, prompt, full)))
    return out


@dataclasses.dataclass(frozen=True)
class PromptConfig:
    """How a diffusion objective is prompted.

    Attributes:
      sources: modalities whose prompt conditions; each sample draws one of those that it has, and its batch holds.
      drop: probability of the null prompt (classifier-free guidance).
      noise: standard deviation of Gaussian noise on the context, in units of the prompt space's own: it covers the gap
        between a modality that was seen with this denoiser and one that is merely aligned.
    """

    sources: tuple[str, ...]
    drop: float = 0.1
    noise: float = 0.0


def context(
    codi: CoDi, config: PromptConfig, variables: dict, batch: dict[str, Encoded], key: jax.Array, name: str
) -> Tokens:
    """Context [B, 1, D] that `name`'s denoiser is trained with."""
    sources = [source for source in config.sources if source in batch]
    prompts = jnp.stack([batch[source].prompt for source in sources])
    size = prompts.shape[1]
    if any(batch[source].present is not None for source in sources):
        present = [jnp.ones(size) if batch[s].present is None else batch[s].present for s in sources]
        draws = jax.random.uniform(fold(key, name, "prompt"), (len(sources), size), minval=1e-6)
        choice = (draws * jnp.stack(present)).argmax(0)
    else:
        choice = jax.random.randint(fold(key, name, "prompt"), (size,), 0, len(sources))
    chosen = prompts[choice, jnp.arange(size)]
    chosen += config.noise * jax.random.normal(fold(key, name, "prompt noise"), chosen.shape)
    null = jnp.concatenate(list(codi.null_prompts(variables, sources, 1).values()))[choice]
    dropped = jax.random.bernoulli(fold(key, name, "prompt drop"), config.drop, (size, 1))
    return Tokens.of(jnp.where(dropped, null, chosen)[:, None])


@flax.struct.dataclass
class Noised:
    """A clean latent z, its noise, the timestep [B] and z_t."""

    z: Array
    noise: Array
    t: Array
    z_t: Array


def noised(codi: CoDi, name: str, encoded: Encoded, t: Array, key: jax.Array) -> Noised:
    """Draws the posterior and corrupts it to the timesteps t [B]."""
    z = encoded.mean + encoded.std * jax.random.normal(fold(key, name, "posterior"), encoded.mean.shape)
    noise = jax.random.normal(fold(key, name, "noise"), z.shape)
    return Noised(z, noise, t, process.corrupt(codi.schedule, z, t, noise))


def timesteps(codi: CoDi, size: int, key: jax.Array, name: str, shift: float = 1.0) -> Array:
    """t ~ U{0, …, T-1}, [B]; with a shift s, u = t/T is moved to s·u / (1 + (s-1)·u), towards noise if s > 1.

    The more values of a latent say the same (frames of a clip, pixels of a large image), the more noise it takes to
    hide it, and a uniform t spends few samples where it is hidden. The shift is equation (23) of Esser et al., "Scaling
    rectified flow transformers" (arXiv 2403.03206).
    """
    total = codi.schedule.steps
    t = jax.random.randint(fold(key, name, "t"), (size,), 0, total)
    u = (t + 0.5) / total
    return (total * shift * u / (1 + (shift - 1) * u)).astype(jnp.int32)
