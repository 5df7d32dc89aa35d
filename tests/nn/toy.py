"""Toy sizes, and nonzero parameters, since the output layers are initialised with zeros."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.nn import EnvironmentConfig, UNetConfig
from codi_jax.types import Tokens

B, D, E = 2, 16, 12
KEY = jax.random.key(0)

_SIZES = {"channels": 32, "groups": 8, "multipliers": (1, 2), "blocks": (1, 1)}
_UNET = {
    **_SIZES,
    "context_width": D,
    "attention_levels": (True, False),
    "cross_modal_levels": (True, False),
    "heads": 4,
}

SPATIAL = UNetConfig(kind="spatial", latent_channels=4, **_UNET)
VIDEO = UNetConfig(kind="spatial", latent_channels=4, temporal=True, **_UNET)
SEQUENCE = UNetConfig(kind="sequence", latent_channels=5, **_UNET)
VECTOR = UNetConfig(kind="vector", latent_channels=10, **_UNET)

SPATIAL_ENVIRONMENT = EnvironmentConfig(kind="spatial", latent_channels=4, width=E, **_SIZES)
VIDEO_ENVIRONMENT = EnvironmentConfig(kind="spatial", latent_channels=4, width=E, temporal=True, **_SIZES)
SEQUENCE_ENVIRONMENT = EnvironmentConfig(kind="sequence", latent_channels=5, width=E, **_SIZES)
VECTOR_ENVIRONMENT = EnvironmentConfig(kind="vector", latent_channels=10, width=E, **_SIZES)

# A network of one level has every kind of layer but the change of resolution.
ONE_LEVEL = {"multipliers": (1,), "blocks": (1,), "attention_levels": (True,), "cross_modal_levels": (True,)}

LATENTS = {"spatial": (B, 4, 4, 4), "video": (B, 3, 4, 4, 4), "sequence": (B, 6, 5), "vector": (B, 10)}


def normal(seed: int, *shape: int) -> jax.Array:
    """Standard normal numbers."""
    return jax.random.normal(jax.random.key(seed), shape)


def tokens(seed: int, length: int, width: int) -> Tokens:
    """A batch of random tokens of equal weight."""
    return Tokens.of(normal(seed, B, length, width))


T = jnp.array([3.0, 700.0])
CONTEXT = tokens(1, 2, D)


def init(module, *args):
    """Random nonzero parameters of a module: scales about 1, kernels of unit gain, the rest small."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        noise = rng.standard_normal(leaf.shape).astype(np.float32)
        name = path[-1].key
        if name == "scale":
            return 1 + 0.1 * noise
        return noise / np.sqrt(np.prod(leaf.shape[:-1])) if name == "kernel" else 0.1 * noise

    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
    return jax.tree.map(jnp.asarray, jax.tree_util.tree_map_with_path(draw, shapes))


# With little optimization, since these programs are large and run once.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def apply(module, params, *args, **kwargs):
    """`module.apply`, compiled."""
    return quick(lambda params, *args: module.apply({"params": params}, *args, **kwargs))(params, *args)
