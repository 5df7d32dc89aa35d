"""Samplers in joint generation, and one that is not part of the package."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax import cli
from codi_jax.diffusion import samplers
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.diffusion.process import convert
from codi_jax.pipeline import Pipeline
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from tests import toy
from tests.diffusion.test_samplers import SCHEDULE, grid, marginal, sampled

PAIR, N, KEY, TEXT = toy.PAIR, 2, jax.random.key(0), "a red seven"


@functools.lru_cache
def variables():
    return toy.variables(toy.codi())


@functools.lru_cache
def prompts():
    return generator().prompts(variables(), {"text": [TEXT] * N})


@functools.lru_cache
def generator(late=0, scale=3.0, **options):
    scales = {name: ClassifierFreeGuidance(2.0, scale) for name in PAIR}
    options = {"steps": 3, "loop": "host", "delay": {"image": late}, **options}
    return Generator(toy.codi(), GenerateConfig(scales, **options))


def latents(outputs, model, key=KEY, **options):
    out = model.latents(variables(), outputs, prompts(), N, key, **options)
    return {name: jax.device_get(z) for name, z in out.items()}  # a pytree would be sorted


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "heun", "spacing": "karras", "late": 2},
        pytest.param({"sampler": "unipc", "spacing": "log_snr"}, marks=pytest.mark.slow),
        pytest.param({"sampler": "dpmpp_2m_sde"}, marks=pytest.mark.slow),
    ],
)
def test_scan_and_host_loop_agree(options):
    host, scan = (latents(PAIR, generator(loop=loop, **options)) for loop in ("host", "scan"))
    assert list(host) == list(scan) == list(PAIR)
    for name in PAIR:
        assert np.isfinite(host[name]).all()
        np.testing.assert_allclose(scan[name], host[name], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("sampler", ["heun", "ancestral"])
def test_outputs_are_the_same_together_and_alone_without_environment_guidance(sampler):
    joint = latents(PAIR, generator(late=1, scale=0.0, sampler=sampler))
    for name in PAIR:
        alone = latents((name,), generator(scale=0.0, sampler=sampler))
        # Noise is folded with the step of the loop, in which a delayed output is later.
        if sampler == "heun" or name == "text":
            np.testing.assert_allclose(joint[name], alone[name], rtol=1e-3, atol=1e-4)


def test_heun_computes_the_environment_tokens_anew_at_both_ends_of_a_step():
    """Against the method written out for all outputs, with the unguided prediction."""
    codi = toy.codi()
    context, connectivity = codi.context(prompts()), jnp.asarray(codi.connectivity(PAIR))

    @toy.quick
    def predict(z, t):
        batch = jnp.full((N,), t)
        tokens = {name: codi[name].environment_tokens(variables(), z[name], batch) for name in PAIR}
        environments = {name: codi.environment(tokens, connectivity[i]) for i, name in enumerate(PAIR)}
        return {name: codi[name].denoise(variables(), z[name], batch, context, *environments[name]) for name in PAIR}

    def derivative(z, t):
        """x̂0 and ε̂ of all outputs; the toy model predicts v."""
        level, v = codi.schedule.at(t), predict(z, t)
        x0 = {name: level.alpha * z[name] - level.sigma * v[name] for name in PAIR}
        return x0, {name: level.sigma * z[name] + level.alpha * v[name] for name in PAIR}

    noise = {name: jax.random.normal(KEY, (N, *codi[name].latent_shape)) for name in PAIR}
    z = noise
    for t, t_next in samplers.timesteps(codi.schedule, 3):
        now, then = codi.schedule.at(t), codi.schedule.at(t_next)
        x0, eps = derivative(z, t)
        euler = {name: then.alpha * x0[name] + then.sigma * eps[name] for name in PAIR}
        if t_next == -1:
            z = euler
            continue
        x0_next, eps_next = derivative(euler, t_next)
        z = {
            name: z[name]
            + (then.alpha - now.alpha) * (x0[name] + x0_next[name]) / 2
            + (then.sigma - now.sigma) * (eps[name] + eps_next[name]) / 2
            for name in PAIR
        }
    ones = {name: ClassifierFreeGuidance(1.0, 1.0) for name in PAIR}
    got = latents(PAIR, generator(sampler="heun"), guidance=ones, noise=noise)
    for name in PAIR:
        np.testing.assert_allclose(got[name], z[name], rtol=1e-3, atol=2e-4)


def test_a_model_of_the_rectified_flow_generates():
    codi = toy.codi("text", schedule="rectified_flow", prediction="flow")
    both = [
        Generator(codi, GenerateConfig({}, steps=3, sampler=name, loop="host")).latents(
            variables(), ("text",), {}, N, KEY
        )["text"]
        for name in ("euler", "ddim")
    ]
    assert np.isfinite(both[0]).all()
    np.testing.assert_allclose(*both, rtol=1e-3, atol=1e-4)


def test_progress_counts_network_calls():
    for late, total in ((0, 5), (1, 7)):  # the last step, to the clean level, has one call
        said = []
        latents(PAIR, generator(late, sampler="heun"), progress=lambda *given, said=said: said.append(given))
        assert said == [("sampling", i, total) for i in range(total)]


def test_one_program_serves_both_evaluations_of_a_step():
    model = Generator(toy.codi(), GenerateConfig({}, sampler="heun", steps=3, loop="host"))
    latents(("text",), model)
    assert model.compiled_programs() == 1


class IteratedTrapezoid:
    """A sampler of somebody else, written from the docstring of `Sampler`: three network calls a step.

    The trapezoidal rule is implicit; two iterations from the step of DDIM solve it nearly.
    """

    evaluations = 3
    noise = "none"

    def init(self, z):
        return samplers.State(z, {"start": z, "x0": z, "eps": z})

    def step(self, state, prediction, kind, now, then, eta, noise, evaluation=0):
        at = now if evaluation == 0 else then
        x0 = convert(prediction, state.z, at.alpha, at.sigma, kind, "x0")
        eps = convert(prediction, state.z, at.alpha, at.sigma, kind, "eps")
        if evaluation == 0:
            return samplers.State(then.alpha * x0 + then.sigma * eps, {"start": state.z, "x0": x0, "eps": eps})
        first = state.history
        x0, eps = (first["x0"] + x0) / 2, (first["eps"] + eps) / 2
        return samplers.State(
            first["start"] + (then.alpha - now.alpha) * x0 + (then.sigma - now.sigma) * eps, first
        )  # fmt: skip


@pytest.fixture
def somebody_elses():
    samplers.SAMPLERS.add("iterated", IteratedTrapezoid())
    yield "iterated"
    samplers.SAMPLERS._entries.pop("iterated")


def test_a_sampler_from_outside_is_of_second_order_on_a_gaussian(somebody_elses):
    with jax.enable_x64(True):
        schedule = dataclasses.replace(SCHEDULE, dtype="float64")
        want = marginal(schedule, 65)[1]
        errors = [np.abs(sampled(schedule, somebody_elses, grid(961, 65, n))[1] - want).max() for n in (56, 112)]
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.12)


def test_a_sampler_from_outside_generates(somebody_elses, capsys):
    config = GenerateConfig({}, steps=2, loop="host")
    pipe, said = Pipeline(toy.codi(), config, variables()), []
    out = pipe(TEXT, PAIR, seed=3, sampler=somebody_elses, progress=lambda *given: said.append(given))
    assert len(out.text) == len(out.image) == 1
    assert [given for given in said if given[0] == "sampling"] == [("sampling", i, 4) for i in range(4)]
    other = Generator(toy.codi(), GenerateConfig({}, steps=2, loop="scan", sampler=somebody_elses))
    scanned = other.sample(variables(), PAIR, {"text": [TEXT]}, 1, jax.random.key(3))
    for name in PAIR:
        np.testing.assert_allclose(out.latents[name], scanned[name], rtol=2e-3, atol=2e-4)
    with pytest.raises(SystemExit):
        cli.main(["generate", "--help"])
    assert "unipc, iterated" in " ".join(capsys.readouterr().out.split())
