import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codi_jax.config import ConfigError
from codi_jax.diffusion import process, schedules

KINDS = sorted(process.KINDS)
SCHEDULES = {name: schedules.make(name) for name in sorted(schedules.SCHEDULES)}
INNER_TIMESTEPS = st.integers(20, 900)  # where α and σ are at least about 0.1, so that conversions are well conditioned
EXAMPLES = settings(max_examples=150, deadline=None)

convert = jax.jit(process.convert, static_argnames=("source", "to"))
corrupt = jax.jit(process.corrupt, static_argnums=0)
target = jax.jit(process.target, static_argnums=0, static_argnames="kind")


def latents(seed: int, t: int):
    rng = np.random.default_rng(seed)
    z, noise = rng.normal(size=(2, 3, 4, 2, 2)).astype(np.float32)
    return z, noise, np.array([t, 20, 900], np.int32)  # different timesteps in one batch


@given(
    st.sampled_from(KINDS),
    st.sampled_from(KINDS),
    st.sampled_from(list(SCHEDULES)),
    INNER_TIMESTEPS,
    st.integers(0, 99),
)
@EXAMPLES
def test_converting_to_any_kind_and_back_is_the_identity(source, to, name, t, seed):
    """For arbitrary predictions."""
    z_t, prediction, t = latents(seed, t)
    level = SCHEDULES[name].at(t, z_t)
    converted = convert(prediction, z_t, level.alpha, level.sigma, source=source, to=to)
    back = convert(converted, z_t, level.alpha, level.sigma, source=to, to=source)
    np.testing.assert_allclose(back, prediction, atol=2e-4)


@given(
    st.sampled_from(KINDS),
    st.sampled_from(KINDS),
    st.sampled_from(list(SCHEDULES)),
    INNER_TIMESTEPS,
    st.integers(0, 99),
)
@EXAMPLES
def test_the_target_of_one_kind_converts_to_that_of_another(source, to, name, t, seed):
    """The definitions of the targets, the forward process and the conversion agree."""
    z, noise, t = latents(seed, t)
    schedule = SCHEDULES[name]
    z_t = corrupt(schedule, z, t, noise)
    level = schedule.at(t, z)
    got = convert(target(schedule, z, noise, t, kind=source), z_t, level.alpha, level.sigma, source=source, to=to)
    np.testing.assert_allclose(got, target(schedule, z, noise, t, kind=to), atol=2e-4)


def test_targets_match_their_definitions():
    z, noise, t = latents(0, 400)
    schedule = SCHEDULES["scaled_linear"]
    z_t = np.asarray(corrupt(schedule, z, t, noise))
    alpha = np.sqrt(schedule.abar[t])[:, None, None, None]
    sigma = np.sqrt(1 - schedule.abar[t])[:, None, None, None]
    u = np.asarray(target(schedule, z, noise, t, kind="flow"))
    np.testing.assert_allclose(target(schedule, z, noise, t, kind="eps"), noise)
    np.testing.assert_allclose(target(schedule, z, noise, t, kind="x0"), z)
    np.testing.assert_allclose(target(schedule, z, noise, t, kind="v"), alpha * noise - sigma * z, atol=1e-6)
    np.testing.assert_allclose(z_t, alpha * z + sigma * (u + z), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_x0_slope_is_the_derivative_of_the_conversion(kind):
    alpha, sigma = np.float32(0.6), np.float32(0.8)
    derivative = jax.grad(lambda p: process.convert(p, np.float32(0.3), alpha, sigma, kind, "x0"))(np.float32(1.2))
    np.testing.assert_allclose(process.x0_slope(alpha, sigma, kind), derivative, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_x0_at_the_clean_level_is_the_latent(kind):
    z = latents(0, 20)[0]
    level = SCHEDULES["cosine"].at(schedules.CLEAN, z)
    prediction = z if kind == "x0" else np.ones_like(z)
    np.testing.assert_array_equal(process.convert(prediction, z, level.alpha, level.sigma, kind, "x0"), z)


def test_an_unknown_kind_raises():
    with pytest.raises(ConfigError, match="unknown kind 'epsilon'; known are eps, x0, v, flow"):
        process.convert(0, 0, 1.0, 0.0, "epsilon", "x0")
