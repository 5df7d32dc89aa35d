"""Adjusted guidance: by hand, its invariants, and that the prediction kind of the network does not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.diffusion.adjustment import adjustment
from codi_jax.diffusion.guidance import AdjustedGuidance, ClassifierFreeGuidance
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from tests import toy

GUIDED, LAST = jnp.array([[3.0, 1.0], [0.0, 2.0]]), jnp.array([[1.0, 0.0], [1.0, 1.0]])


def adjust(guided=GUIDED, last=LAST, **numbers):
    return np.asarray(adjustment(**{"rescale": 0.0, "parallel": 1.0, "limit": 0.0, **numbers})(guided, last))


def pair(seed=0):
    return (jax.random.normal(key, (4, 8, 8, 3)) for key in jax.random.split(jax.random.key(seed)))


def test_nothing_is_done_by_default():
    assert ClassifierFreeGuidance(7.0, 3.0).adjustment() is None
    assert isinstance(ClassifierFreeGuidance(), AdjustedGuidance)
    np.testing.assert_allclose(adjust(limit=100.0), GUIDED, rtol=1e-6)  # a limit that is not reached


def test_by_hand():
    np.testing.assert_allclose(adjust(parallel=0.0), [[1, 1], [0, 2]], rtol=1e-6)  # moves (2, 1), (-1, 1)
    np.testing.assert_allclose(adjust(parallel=0.5), [[2, 1], [0, 2]], rtol=1e-6)
    rms = np.sqrt(5 / 2)
    np.testing.assert_allclose(adjust(limit=1.0), [[1 + 2 / rms, 1 / rms], [0, 2]], rtol=1e-6)
    np.testing.assert_allclose(adjust(rescale=1.0)[0], [1.5, 0.5], rtol=1e-6)  # std 1 -> 1/2
    np.testing.assert_allclose(adjust(rescale=0.5)[0], [2.25, 0.75], rtol=1e-6)


def test_invariants():
    last, move = pair()
    flat = lambda x: np.asarray(x).reshape(4, -1)  # noqa: E731
    orthogonal = adjust(last + 5 * move, last, parallel=0.0) - last
    assert np.abs((flat(orthogonal) * flat(last)).sum(1)).max() < 1e-2 < np.abs(flat(orthogonal)).sum(1).min()
    limited = adjust(last + 5 * move, last, limit=0.25) - last
    np.testing.assert_allclose(np.sqrt((flat(limited) ** 2).mean(1)), 0.25, rtol=1e-5)
    rescaled = adjust(last + 5 * move, last, rescale=1.0)
    np.testing.assert_allclose(flat(rescaled).std(1), flat(last).std(1), rtol=1e-5)


@pytest.mark.parametrize("value", [{"rescale": 0.7}, {"parallel": 0.0, "limit": 0.5}])
def test_zeros_stay_finite(value):
    zero = jnp.zeros((1, 4))
    assert np.isfinite(adjust(zero, zero, **value)).all()


def test_sampling_is_changed_by_it_alone_and_does_not_compile_again_for_other_numbers():
    codi = toy.codi("text", "image")
    generator = Generator(codi, GenerateConfig({}, steps=2, loop="host"))
    variables = toy.variables(codi)

    def sample(**numbers):
        rules = {name: ClassifierFreeGuidance(5.0, 3.0, **numbers) for name in ("text", "image")}
        prompts = {"text": jnp.ones((1, codi.config.width))}
        return generator.latents(variables, ("text", "image"), prompts, 1, jax.random.key(0), None, rules)["image"]

    plain, projected = sample(), sample(parallel=0.0)
    compiled = generator.compiled_programs()
    half = sample(parallel=0.5, rescale=0.2, limit=3.0)
    assert generator.compiled_programs() == compiled
    assert np.abs(plain - projected).max() > 1e-4 and np.abs(half - projected).max() > 1e-4
    np.testing.assert_allclose(sample(limit=1e6), plain, atol=2e-4)


def test_what_cannot_be_is_refused():
    for numbers, message in (({"rescale": 1.5}, "rescale: expected 0 to 1"), ({"limit": -1}, "limit: expected a posi")):
        with pytest.raises(ConfigError, match=f"^guidance: {message}"):
            ClassifierFreeGuidance(**numbers)
