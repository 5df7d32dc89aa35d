"""Flax building blocks of the diffusion models. Sizes come from configs; no module depends on a modality."""

from codi_jax.nn.config import BlockConfig, EnvironmentConfig, UNetConfig
from codi_jax.nn.cross_modal import CrossModalAttention
from codi_jax.nn.denoiser import Denoiser
from codi_jax.nn.environment import EnvironmentEncoder
from codi_jax.nn.unet import UNet

__all__ = [
    "BlockConfig",
    "CrossModalAttention",
    "Denoiser",
    "EnvironmentConfig",
    "EnvironmentEncoder",
    "UNet",
    "UNetConfig",
]
