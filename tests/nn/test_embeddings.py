"""The embedding of the timestep."""

import jax.numpy as jnp
import numpy as np

from codi_jax.nn.embeddings import frequencies, timestep_embedding


def test_timestep_embedding_matches_its_formula():
    t = np.array([0.0, 1.0, 2.5])
    got = timestep_embedding(jnp.asarray(t), 64)
    phase = t[:, None] * 10000.0 ** (-np.arange(32) / 32)
    np.testing.assert_allclose(got, np.concatenate([np.cos(phase), np.sin(phase)], axis=-1), atol=1e-6)
    assert got.dtype == jnp.float32


def test_integer_and_real_timesteps_agree():
    np.testing.assert_array_equal(
        timestep_embedding(jnp.array([0, 999]), 32), timestep_embedding(jnp.array([0.0, 999.0]), 32)
    )


def test_frequencies_are_within_one_unit_in_the_last_place():
    for half in (16, 96, 160):
        exponents = np.float32(-np.log(10000)) * np.arange(half, dtype=np.float32) / np.float32(half)
        exact = np.exp(exponents.astype(np.float64))
        assert np.all(np.abs(frequencies(half) - exact) <= 0.52 * np.spacing(exact.astype(np.float32)))
