"""What is held stays: in every sampler and loop, whole, in part, and from a level of noise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.diffusion import process, schedules
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.diffusion.samplers import SAMPLERS
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.sampling.held import Held, Kept, start
from tests import toy

N = 2
BUILT_IN = ("ddim", "ancestral", "euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc")
KEY = jax.random.key(3)


@functools.lru_cache
def variables():
    return toy.variables(toy.codi())


def generator(sampler="ddim", loop="host", steps=3, **options):
    guidance = {name: ClassifierFreeGuidance(2.0, 2.0) for name in toy.PAIR}
    return Generator(toy.codi(), GenerateConfig(guidance, steps=steps, sampler=sampler, loop=loop, **options))


def given(seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((N, 2, 2, 4)), jnp.float32)


MASK = np.zeros((1, 2, 2, 1), np.float32)
MASK[0, 0] = 1  # the upper half


def latents(of, held, outputs=toy.PAIR, key=KEY):
    return of.latents(variables(), outputs, {}, N, key, held=held)


@pytest.mark.parametrize("sampler", BUILT_IN)
def test_every_sampler_ends_at_what_is_kept(sampler):
    assert set(BUILT_IN) == set(SAMPLERS)
    made = latents(generator(sampler), {"image": Held(given(), MASK)}, ("image",))["image"]
    np.testing.assert_allclose(made[:, 0], given()[:, 0], atol=2e-5)
    assert float(jnp.abs(made[:, 1] - given()[:, 1]).max()) > 0.1


def test_the_rest_goes_with_what_is_kept():
    of = generator()
    made, free = (latents(of, held, ("image",))["image"] for held in ({"image": Held(given(), MASK)}, None))
    assert float(jnp.abs(made[:, 1] - free[:, 1]).max()) > 1e-3


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
def test_reconstruction_guidance_of_a_linear_denoiser(kind):
    # x̂0(z) = A z: the gradient of ½ ‖m (A z - y)‖² is Aᵀ m (A z - y).
    rng = np.random.default_rng(0)
    A, z, y, scale = rng.normal(size=(4, 4)), rng.normal(size=(2, 4)), rng.normal(size=(2, 4)), 3.0
    m, t, schedule = np.array([1.0, 0, 1, 0]), jnp.array([500]), schedules.make("cosine")
    level = schedule.at(t, jnp.asarray(z))
    alpha, sigma = float(level.alpha.reshape(-1)[0]), float(level.sigma.reshape(-1)[0])

    def denoise(z):
        return process.convert(z @ jnp.asarray(A.T, jnp.float32), z, alpha, sigma, "x0", kind)

    kept = Kept(jnp.asarray(y, jnp.float32), jnp.asarray(m, jnp.float32), jnp.float32(scale))
    got = kept.predict(denoise, jnp.asarray(z, jnp.float32), t, schedule, kind)
    got = process.convert(got, jnp.asarray(z, jnp.float32), alpha, sigma, kind, "x0")
    want = z @ A.T - scale * alpha * (m * (z @ A.T - y)) @ A
    np.testing.assert_allclose(got, np.where(m > 0, y, want), rtol=1e-4, atol=1e-4)
    plain = dataclasses.replace(kept, reconstruction=None).predict(
        denoise, jnp.asarray(z, jnp.float32), t, schedule, kind
    )
    plain = process.convert(plain, jnp.asarray(z, jnp.float32), alpha, sigma, kind, "x0")
    np.testing.assert_allclose(plain, np.where(m > 0, y, z @ A.T), rtol=1e-4, atol=1e-4)


def test_reconstruction_guidance_changes_what_is_generated_and_not_what_is_kept():
    made = [
        latents(generator(), {"image": Held(given(), MASK, reconstruction=w)}, ("image",))["image"] for w in (0.0, 5.0)
    ]
    np.testing.assert_allclose(made[1][:, 0], given()[:, 0], atol=2e-5)
    assert float(jnp.abs(made[1][:, 1] - made[0][:, 1]).max()) > 1e-3


def test_a_scan_is_the_host_loop():
    held = {"image": Held(given(), MASK), "text": Held(jnp.ones((1, 16)), share=0.5)}
    host, scan = (latents(generator(loop=loop, steps=4), held) for loop in ("host", "scan"))
    for name in toy.PAIR:
        np.testing.assert_allclose(host[name], scan[name], atol=2e-4)


def test_what_is_held_whole_does_not_change_and_guides_the_others():
    held = [{"image": Held(given(seed), share=0.0)} for seed in (0, 1)]
    first, second = (latents(generator(), of) for of in held)
    np.testing.assert_array_equal(first["image"], given(0))
    assert float(jnp.abs(first["text"] - second["text"]).max()) > 1e-3
    alone = latents(generator(), None, ("text",))["text"]
    assert float(jnp.abs(first["text"] - alone).max()) > 1e-3


def test_an_edited_output_starts_from_its_own_noise_level():
    of = generator(steps=4)
    near, far = (latents(of, {"image": Held(given(), share=share)}, ("image",))["image"] for share in (0.25, 1.0))
    free = latents(of, None, ("image",))["image"]
    np.testing.assert_array_equal(far, free)  # all steps: from pure noise
    distance = [float(jnp.abs(z - given()).mean()) for z in (near, far)]
    assert distance[0] < 0.8 * distance[1]


def test_steps_that_are_taken():
    of = generator(steps=4)._sample
    levels = of._levels(("text", "image"), {"image": 0.5})
    every = of._pairs
    np.testing.assert_array_equal(levels[:, 0], every)
    np.testing.assert_array_equal(levels[2:, 1], every[2:])
    assert (levels[:2, 1] == every[2, 0]).all()  # waits where it starts
    assert of._levels(("image",), {"image": 0.5}).shape == (2, 1, 2)
    assert (of._levels(("text", "image"), {"image": 0.0})[:, 1] == every[-1, 1]).all()
    assert of.first_timestep(1e-9) == every[-1, 0] and of.first_timestep(0.0) == every[-1, 1]
    delayed = generator(steps=4, delay={"image": 2})._sample._levels(("text", "image"), {"image": 0.5})
    np.testing.assert_array_equal(delayed[4:, 1], every[2:])
    assert len(delayed) == 6


def test_the_start_is_on_the_path_of_what_is_kept():
    codi = toy.codi()
    noise = jnp.ones((N, 2, 2, 4))
    z = start(Held(given(), MASK), noise, 500, codi.schedule)
    level = codi.schedule.at(500)
    np.testing.assert_allclose(z[:, 0], level.alpha * given()[:, 0] + level.sigma, rtol=1e-6)
    np.testing.assert_array_equal(z[:, 1], noise[:, 1])


def test_nothing_to_generate_is_refused():
    with pytest.raises(ConfigError, match=r"^text, image: all of it is given; name an output that is generated$"):
        latents(generator(), {"image": Held(given(), share=0.0), "text": Held(jnp.ones((1, 16)), share=0.0)})
    with pytest.raises(ConfigError, match=r"^strength: expected 0 to 1, got 2$"):
        Held(given(), share=2)
