"""Judges of media with one, two and three spatial axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.digit_world.judges.network import DEGRADATIONS, Judge, JudgeConfig, degrade, gaussian_blur

SHAPES = {"sequence": (3, 32, 2), "map": (3, 16, 16, 2), "video": (3, 4, 16, 16, 2)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_blur_keeps_the_mean_of_every_sample_and_mixes_none(shape):
    media = jax.random.normal(jax.random.key(0), shape)
    blurred = gaussian_blur(media, jnp.array([0.0, 0.1, 0.2]))
    np.testing.assert_allclose(blurred[0], media[0], atol=1e-5)
    spread = lambda x: np.std(np.asarray(x))  # noqa: E731
    assert spread(blurred[2]) < spread(blurred[1]) < 0.6 * spread(media[1])
    axes = (-3, -2) if len(shape) > 3 else (-2,)
    np.testing.assert_allclose(blurred.mean(axes), media.mean(axes), atol=1e-5)
    np.testing.assert_allclose(gaussian_blur(media[1:], jnp.array([0.1, 0.2])), blurred[1:], atol=1e-5)


def test_a_blurred_impulse_in_a_sequence_is_a_gaussian():
    impulse = jnp.zeros((1, 64, 1)).at[0, 32].set(1.0)
    blurred = gaussian_blur(impulse, jnp.array([0.05]))[0, :, 0]
    want = np.exp(-((np.arange(64) - 32) ** 2) / (2 * (0.05 * 64) ** 2))
    np.testing.assert_allclose(blurred, want / want.sum(), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_judge_reads_media_that_are_degraded_in_every_way(shape):
    media = jax.random.normal(jax.random.key(0), shape)
    judge = Judge(JudgeConfig({"digit": 10}, channels=(8, 8), features=8))
    params = jax.eval_shape(judge.init, jax.random.key(0), media)["params"]
    logits, features = jax.eval_shape(lambda p: judge.apply({"params": p}, media), params)
    assert logits["digit"].shape == (3, 11) and features.shape == (3, 8)
    for kind in range(len(DEGRADATIONS)):
        severity = jnp.array([0.0, 0.5, 1.0])
        out = degrade(media, jnp.full(3, kind), severity, jax.random.key(1))
        assert out.shape == shape and np.isfinite(out).all()
        assert np.abs(out[2] - media[2]).max() > 0.1
