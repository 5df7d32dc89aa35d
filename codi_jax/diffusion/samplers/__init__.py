"""Samplers: from noise to data along a list of timesteps.

In the notation of `diffusion.process`: z = α x0 + σ ε, and x̂0, ε̂ are the network's prediction converted to these two
kinds. A step goes from level (α, σ) to the less noisy (α', σ'); λ = log(α/σ) is half the log-SNR and h = λ' - λ > 0.
Without noise all samplers solve the same equation, the probability-flow ODE of Song et al., "Score-based generative
modeling through stochastic differential equations" (arXiv 2011.13456). Along any path of levels (α, σ) it reads

    dz = x̂0(z) dα + ε̂(z) dσ                                                     (1)

A sampler is a small object with pure functions on one latent, see `Sampler`; each has a file. `sample` repeats its step
on a pytree of latents.
"""

from codi_jax.diffusion.samplers.base import SAMPLERS, Sampler, State, adds_noise
from codi_jax.diffusion.samplers.loop import JointStep, sample
from codi_jax.diffusion.samplers.timesteps import SPACINGS, NetworkCalls, delayed, network_calls, timesteps

__all__ = [
    "SAMPLERS",
    "SPACINGS",
    "JointStep",
    "NetworkCalls",
    "Sampler",
    "State",
    "adds_noise",
    "delayed",
    "network_calls",
    "sample",
    "timesteps",
]
