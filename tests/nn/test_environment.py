"""Environment encoders: one pooled token or a map of tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.nn import EnvironmentEncoder
from codi_jax.nn.compute import Compute
from tests.nn import toy

CASES = {
    "spatial": (toy.SPATIAL_ENVIRONMENT, 4),
    "video": (toy.VIDEO_ENVIRONMENT, 3 * 4),
    "sequence": (toy.SEQUENCE_ENVIRONMENT, 3),
    "vector": (toy.VECTOR_ENVIRONMENT, 1),
}


@pytest.mark.parametrize("kind", CASES)
def test_the_pooled_token_is_the_mean_of_the_map_and_can_be_normalized(kind):
    config, positions = CASES[kind]
    z, emb = toy.normal(0, *toy.LATENTS[kind]), toy.normal(1, toy.B, 128)
    encoder = EnvironmentEncoder(dataclasses.replace(config, tokens="map"))
    params = toy.init(encoder, z, emb)
    tokens = toy.apply(encoder, params, z, emb)
    assert (tokens.shape, tokens.dtype) == ((toy.B, positions, toy.E), jnp.float32)
    pooled = toy.apply(EnvironmentEncoder(config), params, z, emb)
    np.testing.assert_allclose(pooled, tokens.mean(1, keepdims=True), atol=1e-5)
    unit = toy.apply(EnvironmentEncoder(dataclasses.replace(config, normalize=True)), params, z, emb)
    np.testing.assert_allclose(unit, pooled / np.linalg.norm(pooled, axis=-1, keepdims=True), atol=1e-5)


def test_tokens_depend_on_the_timestep_and_not_on_remat():
    z, emb = toy.normal(0, *toy.LATENTS["vector"]), toy.normal(1, toy.B, 128)
    encoder = EnvironmentEncoder(toy.VECTOR_ENVIRONMENT)
    params = toy.init(encoder, z, emb)
    tokens = toy.apply(encoder, params, z, emb)
    assert np.abs(tokens - toy.apply(encoder, params, z, emb + 0.5)).max() > 1e-3

    def gradients(remat):
        loss = lambda p: jnp.square(encoder.clone(compute=Compute(remat=remat)).apply({"params": p}, z, emb)).sum()  # noqa: E731
        return toy.quick(jax.grad(loss))(params)

    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)  # noqa: E731
    jax.tree.map(close, gradients("none"), gradients("blocks"))
