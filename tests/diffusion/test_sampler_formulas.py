"""Single steps against numbers of the formulas of k-diffusion and diffusers, which write z/α as a function of σ/α.

At levels with α = 1 their latents are ours. All numbers are for noise levels that halve, so that h = log 2.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.diffusion import process
from codi_jax.diffusion.samplers import SAMPLERS, sample
from codi_jax.diffusion.samplers.unipc import phi
from codi_jax.diffusion.schedules import Level, rectified_flow


def level(sigma):
    return Level(*map(jnp.float32, (1.0, sigma, -2 * np.log(sigma))))


def run(name, x, sigmas, denoised, noises=None):
    """Latents after each network call, for the x̂0 of each call."""
    sampler, calls = SAMPLERS[name], iter(denoised)
    state, out = sampler.init(jnp.full((1,), x, jnp.float32)), []
    for i in range(len(sigmas) - 1):
        for evaluation in range(sampler.evaluations):
            noise = None if noises is None else jnp.full((1,), noises[i], jnp.float32)
            x0 = jnp.full((1,), next(calls), jnp.float32)
            state = sampler.step(
                state, x0, "x0", level(sigmas[i]), level(sigmas[i + 1]), jnp.float32(0), noise, evaluation
            )  # fmt: skip
            out.append(float(state.z[0]))
    return out


def test_euler():
    np.testing.assert_allclose(run("euler", 3, (2, 1), [1]), [2.0], rtol=1e-6)  # d = (3 - 1) / 2, x + d (1 - 2)


def test_euler_ancestral():
    # σ_up = √(1 · 3/4), σ_down = 1/2, d = 1: 3 + d (σ_down - 2) + σ_up ξ
    np.testing.assert_allclose(run("ancestral", 3, (2, 1), [1], [1.0]), [1.5 + 0.75**0.5], rtol=1e-6)


def test_heun():
    # Euler to 2, where d' = (2 - 0.5) / 1; the mean of d = 1 and d' is 1.25.
    np.testing.assert_allclose(run("heun", 3, (2, 1), [1, 0.5]), [2.0, 1.75], rtol=1e-6)


def test_dpmpp_2m():
    # x / 2 + D / 2 with D = 1, then D = 2 + (2 - 1) / 2
    np.testing.assert_allclose(run("dpmpp_2m", 3, (4, 2, 1), [1, 2]), [2.0, 2.25], rtol=1e-6)


def test_dpmpp_2m_sde():
    # x / 4 + 3/4 D + σ' √(3/4) ξ with the same D
    np.testing.assert_allclose(
        run("dpmpp_2m_sde", 3, (4, 2, 1), [1, 2], [0.5, -1.0]), [2.3660254, 1.6004810], rtol=1e-6
    )


def unipc_by_the_general_equations(x, sigmas, denoised):
    """Order 2 by a linear system for the coefficients of any order (Zhao et al., theorem 3.1), in float64."""
    lambdas, out, corrected = -np.log(sigmas), [], x

    def change(before, h, values, distances, coefficients):
        """The part of x̂0_before, and that of the differences to it."""
        base = -np.expm1(-h) * values[0]
        return base - np.expm1(-h) * sum(
            c * (v - values[0]) / d for c, v, d in zip(coefficients, values[1:], distances, strict=True)
        )

    for i in range(len(sigmas) - 1):
        if i:
            h = lambdas[i] - lambdas[i - 1]
            values, distances = [denoised[i - 1]], []
            if i > 1:
                values.append(denoised[i - 2])
                distances.append((lambdas[i - 2] - lambdas[i - 1]) / h)
            values.append(denoised[i])
            distances.append(1.0)
            system = np.array([np.power(distances, k) for k in range(len(distances))])
            moments, term, factorial = [], np.expm1(-h) / -h - 1, 1
            for k in range(len(distances)):
                moments.append(term * factorial / np.expm1(-h))
                factorial *= k + 2
                term = term / -h - 1 / factorial
            coefficients = [0.5] if len(distances) == 1 else np.linalg.solve(system, moments)
            corrected = sigmas[i] / sigmas[i - 1] * corrected + change(i - 1, h, values, distances, coefficients)
        h = lambdas[i + 1] - lambdas[i]
        earlier = ([denoised[i], denoised[i - 1]], [(lambdas[i - 1] - lambdas[i]) / h], [0.5]) if i else None
        predicted = sigmas[i + 1] / sigmas[i] * corrected + change(i, h, *(earlier or ([denoised[0]], [], [])))
        out.append(predicted)
    return out


@pytest.mark.parametrize("sigmas", [(8.0, 4.0, 2.0, 1.0, 0.5), (9.0, 5.0, 0.6, 0.5, 0.1), (5.0, 4.96, 4.9, 4.87, 4.8)])
def test_unipc(sigmas):
    denoised = [1.0, 2.0, 0.5, 0.7]
    want = unipc_by_the_general_equations(3.0, np.array(sigmas), denoised)
    np.testing.assert_allclose(run("unipc", 3.0, sigmas, denoised), want, rtol=2e-5)


@pytest.mark.parametrize("k, limit", [(1, 1.0), (2, 1 / 2), (3, 1 / 6)])
def test_phi(k, limit):
    np.testing.assert_allclose(phi(k, jnp.float32(1e-7)), limit, rtol=1e-6)
    below, above = phi(k, jnp.float32(0.99999)), phi(k, jnp.float32(1.00001))
    np.testing.assert_allclose(below, above, rtol=2e-5)
    exact = {1: 1 - np.exp(-3.0), 2: 1 - (1 - np.exp(-3.0)) / 3, 3: 0.5 - (1 - (1 - np.exp(-3.0)) / 3) / 3}
    np.testing.assert_allclose(phi(k, jnp.float32(3)), exact[k] / 3, rtol=1e-6)


@pytest.mark.parametrize("kind", sorted(process.KINDS))
def test_euler_on_the_rectified_flow_adds_the_velocity_times_the_change_of_time(kind):
    """z' = z + (τ' - τ) u for any prediction u, of whichever kind the network gives it."""
    schedule = rectified_flow()
    z, flow = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    t, t_next = 699, 298
    now = schedule.at(t)
    prediction = process.convert(flow, z, now.alpha, now.sigma, "flow", kind)
    step = SAMPLERS["euler"].step
    new = step(SAMPLERS["euler"].init(z), prediction, kind, now, schedule.at(t_next), jnp.float32(0), None)
    np.testing.assert_allclose(new.z, z + (t_next - t) / 1001 * flow, atol=1e-6 if kind == "flow" else 5e-6)


def test_euler_is_ddim_without_noise():
    z = np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32)
    pairs = np.array([[900, 500], [500, 100], [100, -1]], np.int32)
    both = (sample(double, z, rectified_flow(), pairs, kind="v", sampler=name) for name in ("ddim", "euler"))
    np.testing.assert_allclose(*both, atol=1e-5)


def double(args, z, t):
    return jnp.tanh(2 * z)
