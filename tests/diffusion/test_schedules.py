import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.diffusion import schedules

NAMES = sorted(schedules.SCHEDULES)


@pytest.mark.parametrize("name", NAMES)
def test_noise_grows_on_the_path_of_the_schedule(name):
    schedule = schedules.make(name, steps=500)
    level = schedule.at(np.arange(-1, 500))
    assert schedule.steps == 500
    power = 1 if name == "rectified_flow" else 2
    np.testing.assert_allclose(level.alpha**power + level.sigma**power, 1, atol=1e-6)
    assert np.all(np.diff(level.alpha) < 0) and np.all(np.diff(level.sigma) >= 0) and np.all(np.diff(level.log_snr) < 0)
    assert {x.dtype for x in level} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", NAMES)
def test_log_snr_matches_the_coefficients(name):
    level = schedules.make(name).at(np.arange(10, 900))
    np.testing.assert_allclose(level.log_snr, 2 * jnp.log(level.alpha / level.sigma), atol=2e-5, rtol=1e-5)


def test_scaled_linear_has_the_published_values():
    abar = schedules.scaled_linear().abar
    np.testing.assert_allclose(abar[[0, 1, 981, 999]], [0.99915, 0.99829603, 0.00577550, 0.00466010], rtol=2e-6)


def test_cosine_follows_its_formula_until_beta_is_clipped():
    schedule = schedules.cosine(steps=100, max_beta=0.5)
    f = np.cos((np.arange(101) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
    unclipped = np.asarray(schedule.betas) < 0.5
    assert 90 < unclipped.sum() < 100
    np.testing.assert_allclose(schedule.abar[unclipped], (f[1:] / f[0])[unclipped], rtol=1e-12)
    assert max(schedule.betas) == 0.5


def test_the_clean_level_and_timesteps_out_of_range():
    schedule = schedules.scaled_linear(steps=10)
    level = jax.jit(schedule.at)(jnp.array([schedules.CLEAN, 9, 10, -2]))
    assert [float(x[0]) for x in level] == [1, 0, np.inf]
    for x in level:
        assert np.isfinite(x[1]) and np.isnan(x[2]) and np.isnan(x[3])


def test_coefficients_broadcast_against_a_latent():
    schedule = schedules.scaled_linear()
    z = jnp.zeros((3, 4, 5, 2))
    assert schedule.at(jnp.array([1, 2, 3]), z).alpha.shape == (3, 1, 1, 1)
    assert (schedule.at(5, z).alpha * z).shape == z.shape
    assert schedule.at(5).alpha.shape == ()


def test_rectified_flow_is_the_straight_path():
    schedule = schedules.rectified_flow(steps=9)
    level = schedule.at(np.arange(-1, 9))
    np.testing.assert_allclose(level.sigma, np.arange(10) / 10, atol=1e-7)
    np.testing.assert_allclose(level.alpha, 1 - np.arange(10) / 10, atol=1e-7)
    assert schedules.rectified_flow().steps == 1000 and np.isfinite(schedules.rectified_flow().log_snr).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_real_timesteps_that_are_integers_have_the_bits_of_integers(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        schedule = dataclasses.replace(schedules.make(name), dtype=dtype)
        t = np.arange(-1, 1000)
        for whole, real in zip(schedule.at(t), schedule.at(t.astype(dtype)), strict=True):
            np.testing.assert_array_equal(whole, real)
            assert real.dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_real_timesteps_interpolate_log_snr_and_stay_on_the_path(name):
    schedule = schedules.make(name, steps=50)
    t = np.linspace(-1, 49, 1001)
    level = jax.jit(schedule.at)(jnp.asarray(t, jnp.float32))
    assert np.all(np.diff(level.log_snr) < 0) and np.all(np.diff(level.alpha) <= 0) and np.all(np.diff(level.sigma) > 0)
    power = 1 if name == "rectified_flow" else 2
    np.testing.assert_allclose(level.alpha**power + level.sigma**power, 1, atol=1e-6)
    np.testing.assert_allclose(2 * jnp.log(level.alpha / level.sigma)[1:], level.log_snr[1:], atol=1e-4)
    middle = schedule.at(np.float32(20.25)).log_snr
    np.testing.assert_allclose(middle, 0.75 * schedule.log_snr[20] + 0.25 * schedule.log_snr[21], rtol=1e-5)
    outside = schedule.at(np.float32([-1.5, 49.5]))
    assert all(np.isnan(x).all() for x in outside)


@pytest.mark.parametrize("name", NAMES)
def test_timestep_inverts_log_snr(name):
    schedule = schedules.make(name)
    with jax.enable_x64(True):
        t = np.linspace(0, 999, 777)
        log_snr = dataclasses.replace(schedule, dtype="float64").at(t).log_snr
        np.testing.assert_allclose(schedule.timestep(np.asarray(log_snr)), t, atol=1e-8)
    assert schedule.timestep(np.array([1e9, -1e9])).tolist() == [0, 999]


def test_an_unknown_schedule_is_answered_by_a_similar_one():
    with pytest.raises(ConfigError, match=r"^schedule: unknown name 'rectified'; .*\(did you mean rectified_flow\?\)$"):
        schedules.make("rectified")


def test_equal_schedules_compile_once():
    traces = []

    def f(schedule, t):
        traces.append(1)
        return schedule.at(t).alpha

    f = jax.jit(f, static_argnums=0)
    f(schedules.make("cosine"), 3)
    f(schedules.make("cosine"), 4)
    assert len(traces) == 1
    f(schedules.make("cosine", s=0.01), 4)
    assert len(traces) == 2


def test_posterior_buffers_are_the_posterior_of_the_forward_process():
    """The posterior of z_{t-1} given z_t and x0, by conditioning the joint Gaussian of (z_{t-1}, z_t) given x0."""
    schedule = schedules.scaled_linear()
    buffers = schedules.ddpm_buffers(schedule)
    t = np.arange(1, 1000)
    beta, before, after = np.asarray(schedule.betas)[t], schedule.abar[t - 1], schedule.abar[t]
    gain = np.sqrt(1 - beta) * (1 - before) / (1 - after)  # cov(z_{t-1}, z_t) / var(z_t)
    np.testing.assert_allclose(buffers["posterior_mean_coef2"][t], gain, rtol=1e-5)
    np.testing.assert_allclose(buffers["posterior_mean_coef1"][t], np.sqrt(before) - gain * np.sqrt(after), rtol=1e-4)
    np.testing.assert_allclose(
        buffers["posterior_variance"][t], (1 - before) - gain * np.sqrt(1 - beta) * (1 - before), rtol=1e-4
    )


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: schedules.make("linear"), "unknown name 'linear'"),
        (lambda: schedules.make("cosine", start=0.1), "no option 'start'"),
        (lambda: schedules.Schedule((0.1, 1.0)), "strictly between 0 and 1"),
        (lambda: schedules.Schedule(()), "strictly between 0 and 1"),
    ],
)
def test_invalid_schedules_raise(build, words):
    with pytest.raises(ConfigError, match=words):
        build()
