"""Samplers: from noise to data along a list of timesteps.

In the notation of `diffusion.process`: z = α x0 + σ ε, and x̂0, ε̂ are the network's prediction converted to these two
kinds. A step goes from level (α, σ) to the less noisy (α', σ'); λ = log(α/σ) is half the log-SNR and h = λ' - λ > 0.

A sampler is a pair of pure functions on one latent, a file each; `sample` repeats its step on a pytree of latents.
"""

from codi_jax.diffusion.samplers.base import SAMPLERS, Sampler, State
from codi_jax.diffusion.samplers.loop import JointStep, sample
from codi_jax.diffusion.samplers.timesteps import delayed, timesteps

__all__ = ["SAMPLERS", "JointStep", "Sampler", "State", "delayed", "sample", "timesteps"]
