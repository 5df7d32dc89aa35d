import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.diffusion import losses, process, schedules

SCHEDULE = schedules.scaled_linear()
T = np.array([0, 50, 300, 600, 999])


@pytest.mark.parametrize("gamma", [0.5, 5.0, 1e9])
@pytest.mark.parametrize("kind", sorted(process.KINDS))
def test_every_kind_has_the_same_loss_in_x0_space(kind, gamma):
    rng = np.random.default_rng(0)
    z, noise, guess = rng.normal(size=(3, len(T), 4, 3)).astype(np.float32)
    z_t = process.corrupt(SCHEDULE, z, T, noise)
    level = SCHEDULE.at(T, z)
    prediction = process.convert(guess, z_t, level.alpha, level.sigma, "x0", kind)
    goal = process.target(SCHEDULE, z, noise, T, kind)
    got = losses.diffusion_loss(prediction, goal, losses.min_snr_weight(SCHEDULE, T, kind, gamma))
    snr = SCHEDULE.abar[T] / (1 - SCHEDULE.abar[T])
    want = np.minimum(snr, gamma) * np.mean((guess - z) ** 2, axis=(1, 2))
    np.testing.assert_allclose(got, want, rtol=2e-3)  # at t = 999 ε-space is 15 times less precise than x0-space


@pytest.mark.parametrize(
    "kind, closed_form",
    [
        ("eps", lambda snr: np.minimum(1, 5 / snr)),
        ("x0", lambda snr: np.minimum(snr, 5)),
        ("v", lambda snr: np.minimum(snr, 5) / (snr + 1)),
        ("flow", lambda snr: np.minimum(snr, 5) / (1 + np.sqrt(snr)) ** 2),
    ],
)
@pytest.mark.parametrize("name", sorted(schedules.SCHEDULES))
def test_min_snr_weights_have_their_published_form(name, kind, closed_form):
    schedule = schedules.make(name)
    weight = losses.min_snr_weight(schedule, np.arange(1000), kind, 5.0)
    want = closed_form(np.exp(schedule.log_snr))
    if kind == "v":  # the published form is that of a preserved variance, α² + σ² = 1
        level = schedule.at(np.arange(1000))
        want = want / (level.alpha**2 + level.sigma**2)
    np.testing.assert_allclose(weight, want, rtol=3e-5)


def test_without_gamma_the_loss_is_the_mean_squared_error_of_each_sample():
    weight = losses.min_snr_weight(SCHEDULE, T, "v", None)
    prediction = jnp.arange(10.0).reshape(5, 2)
    loss = losses.diffusion_loss(prediction, jnp.zeros((5, 2)), weight)
    np.testing.assert_allclose(loss, [0.5, 6.5, 20.5, 42.5, 72.5])


def test_the_loss_of_bf16_predictions_is_in_f32():
    prediction = jnp.full((1, 1 << 16), 1.0078125, jnp.bfloat16)
    loss = losses.diffusion_loss(prediction, jnp.ones(prediction.shape, jnp.bfloat16), jnp.ones(1))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, 0.0078125**2, rtol=1e-6)
