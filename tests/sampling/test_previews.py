"""x̂0 between two latents: exact for the samplers of first order, and the same results with and without it."""

import jax
import numpy as np
import pytest

from codi_jax.diffusion import schedules
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.pipeline import Pipeline
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.previews import data_between
from tests import toy

STEPS = 4


@pytest.fixture(scope="module")
def pipe():
    config = GenerateConfig({name: ClassifierFreeGuidance(2.0) for name in toy.PAIR}, steps=STEPS, loop="host")
    return Pipeline(toy.codi(), config, toy.variables(toy.codi()))


def watched(pipe, **options):
    shown = []
    out = pipe("a red seven", toy.PAIR, n=2, decode=False, preview=lambda *given: shown.append(given), **options)
    return jax.device_get(out.latents), jax.device_get(shown)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_it_is_found_between_any_two_levels(name):
    schedule, rng = schedules.make(name), np.random.default_rng(0)
    data, noise = rng.normal(size=(2, 3, 4)).astype(np.float32)
    for t, t_next in ((999, 960), (500, 460), (100, 60), (40, -1)):
        now, then = schedule.at(np.int32(t)), schedule.at(np.int32(t_next))
        z, z_next = (level.alpha * data + level.sigma * noise for level in (now, then))
        np.testing.assert_allclose(data_between(z, z_next, now, then), data, atol=2e-3)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "heun"])
def test_every_call_is_shown_and_the_last_is_the_result(pipe, sampler):
    z, shown = watched(pipe, sampler=sampler)
    calls = STEPS if sampler != "heun" else 2 * STEPS - 1
    assert [(done, total) for done, total, _ in shown] == [(k, calls) for k in range(1, calls + 1)]
    for name in toy.PAIR:
        np.testing.assert_allclose(shown[-1][2][name], z[name], atol=1e-5)
        assert all(latents[name].shape == z[name].shape for _, _, latents in shown)


def test_it_comes_closer_with_the_steps(pipe):
    z, shown = watched(pipe)
    for name in toy.PAIR:
        errors = [np.square(latents[name] - z[name]).mean() for _, _, latents in shown]
        assert errors[0] > errors[-2] > errors[-1]


def test_results_are_the_same_bit_by_bit(pipe):
    z, _ = watched(pipe)
    without = pipe("a red seven", toy.PAIR, n=2, decode=False).latents
    for name in toy.PAIR:
        np.testing.assert_array_equal(z[name], without[name])


@pytest.mark.parametrize("options", [{"sampler": "ancestral"}, {"eta": 1.0}])
def test_there_is_none_where_a_sampler_adds_noise(pipe, options):
    assert watched(pipe, **options)[1] == []


def test_there_is_none_where_one_program_takes_all_steps(pipe):
    assert watched(pipe.with_settings(loop="scan"))[1] == []


def test_what_is_kept_whole_does_not_move(pipe):
    shown = []
    pipe(hold={"text": "a red seven"}, to="image", decode=False, preview=lambda *given: shown.append(given))
    assert {tuple(latents) for _, _, latents in shown} == {("image",)}
