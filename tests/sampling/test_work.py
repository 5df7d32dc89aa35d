"""Networks are evaluated only where their result counts, and the samples are those of the full evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.diffusion.guidance import JOINT, RELEASE, ClassifierFreeGuidance
from codi_jax.parallel import flops
from codi_jax.sampling import work
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.sampling.loop import JointSampler, Programs
from codi_jax.types import Tokens
from tests import toy

PAIR, N, KEY = toy.PAIR, 2, jax.random.key(0)
U, C, C_ENV = JOINT
ALWAYS = ClassifierFreeGuidance(2.0, 3.0)
INTERVAL = ClassifierFreeGuidance(2.0, 3.0, low=0.3, high=0.8)  # the last two of the timesteps 999, 666, 332


class PerSample:
    """A scale of the prompt for each sample, without environment guidance."""

    def __init__(self, *scales):
        self.scales = np.float32(scales)

    def coefficients(self, num_timesteps):
        return jax.tree_util.Partial(per_sample, self.scales)


def per_sample(scales, t, branches):
    return jnp.stack([1 - scales, scales, 0 * scales][: len(branches)]) + 0 * t


class QuickPrograms(Programs):
    def get(self, kind, name, function):
        return self._programs.setdefault((kind, name), toy.quick(function))


@functools.lru_cache
def programs(compat):
    return QuickPrograms()


def generator(compat="true", **options):
    """Generators of a model share their compiled programs."""
    config = GenerateConfig({}, **{"steps": 3, "loop": "host", **options})
    return Generator(toy.codi(compat=compat), config, programs(compat))


@functools.lru_cache
def variables(compat="true"):
    return toy.variables(toy.codi(compat=compat))


PROMPTS, NEGATIVE = (
    {"text": np.random.default_rng(seed).standard_normal((N, toy.D)).astype(np.float32)} for seed in (0, 1)
)


def latents(rules, given, compat="true", null=None, **options):
    rules, model = rules if isinstance(rules, dict) else dict.fromkeys(PAIR, rules), generator(compat, **options)
    made = model.latents(variables(compat), tuple(rules), given, N, KEY, guidance=rules, null=null)
    return {name: np.asarray(z) for name, z in made.items()}


def plan(rules, compat="true", prompted=True, **options):
    model = generator(compat, **options)
    return JointSampler(model.codi, model.config, Programs()).plan(dict.fromkeys(PAIR, rules), N, prompted)


CASES = {
    "an interval, with a negative prompt and a delay": (INTERVAL, PROMPTS, {"null": NEGATIVE, "delay": {"image": 1}}),
    "s = 1": (ClassifierFreeGuidance(1.0, 3.0), PROMPTS, {}),
    "s = g": (ClassifierFreeGuidance(3.0, 3.0), PROMPTS, {}),
    "g = 0": (ClassifierFreeGuidance(3.0, 0.0), PROMPTS, {}),
    "s = g = 1": (ClassifierFreeGuidance(1.0, 1.0), PROMPTS, {}),
    "environment guidance of one": ({"text": ClassifierFreeGuidance(3.0, 0.0), "image": INTERVAL}, PROMPTS, {}),
    "two calls a step": ({"text": INTERVAL, "image": ALWAYS}, PROMPTS, {"sampler": "heun", "delay": {"image": 1}}),
    "a scale for each sample": (PerSample(1.0, 4.0), PROMPTS, {}),
    "no prompt": (INTERVAL, {}, {}),
    "alone without a prompt": ({"text": ALWAYS}, {}, {}),
    "the release": (INTERVAL, PROMPTS, {"compat": "release"}),
    "a scan": ({"text": INTERVAL}, PROMPTS, {"loop": "scan", "sampler": "heun"}),
}


@pytest.mark.parametrize("case", CASES)
def test_samples_are_those_of_the_full_evaluation(monkeypatch, case):
    rules, given, options = CASES[case]
    got = latents(rules, given, **options)
    monkeypatch.setattr(work, "needed", lambda coefficients, branches: branches)
    monkeypatch.setattr(work, "without_prompt", lambda coefficients, branches: coefficients)
    for name, want in latents(rules, given, **options).items():
        np.testing.assert_allclose(got[name], want, rtol=1e-6, atol=1e-6 * np.abs(want).max())


def test_the_branches_of_every_call():
    def branches(*arguments, **options):
        some = [tuple(call.branches.values()) for call in plan(*arguments, **options).work]
        assert all(len(set(own)) == 1 for own in some)  # the same of both outputs
        return [own[0] for own in some]

    assert branches(INTERVAL) == [(C_ENV,), JOINT, JOINT]
    assert branches(INTERVAL, "release") == [RELEASE[1:], RELEASE, RELEASE]
    assert branches(INTERVAL, prompted=False) == [(C_ENV,), (C, C_ENV), (C, C_ENV)]
    for s, g, want in (
        (1, 3, (C, C_ENV)),
        (3, 3, (U, C_ENV)),
        (3, 0, (U, C)),
        (1, 1, (C_ENV,)),
        (1, 0, (C,)),
        (0, 0, (U,)),
    ):
        assert branches(ClassifierFreeGuidance(s, g)) == [want] * 3
    assert branches(PerSample(1.0, 4.0)) == [(U, C)] * 3
    assert branches(PerSample(1.0, 1.0)) == [(C,)] * 3


def test_an_output_that_waits_is_not_evaluated_and_its_tokens_only_once():
    calls = plan(INTERVAL, delay={"image": 1}, sampler="heun").work
    # Text makes two calls in its first two steps and one in the last, image the same a step later.
    assert [{name: len(some) for name, some in call.branches.items()} for call in calls] == [
        {"text": 1},
        {"text": 3},
        {"text": 3, "image": 1},
        {"text": 3, "image": 3},
        {"text": 3, "image": 3},
        {"image": 3},
        {"image": 3},
    ]
    assert [call.read for call in calls] == [("image",)] * 2 + [PAIR] * 3 + [("text",)] * 2
    assert all(call.read == () for call in plan(ClassifierFreeGuidance(3.0, 0.0)).work)


def operations(rule, **options):
    """Operations of a whole sampling, traced."""
    model, own = Generator(toy.codi(), GenerateConfig({}, steps=3, loop="scan", **options)), variables()
    rules, noise = dict.fromkeys(PAIR, rule), {name: jnp.zeros((N, *toy.codi()[name].latent_shape)) for name in PAIR}
    run = lambda noise: model.latents(own, PAIR, PROMPTS, N, KEY, guidance=rules, noise=noise)  # noqa: E731
    return flops.count(jax.make_jaxpr(run)(noise)).total


@functools.lru_cache
def cost(name, branches, joint):
    """Operations of a denoiser on some branches, of which `joint` read the environment, at one timestep."""
    codi, own = toy.codi(), variables()
    batch, environment, gate = branches * N, None, None
    if joint:
        environment, gate = Tokens.of(jnp.zeros((joint * N, 1, toy.D))), jnp.ones(joint * N)
    z, context = jnp.zeros((N, *codi[name].latent_shape)), Tokens.of(jnp.zeros((batch, 1, toy.D)))
    run = lambda z: codi[name].denoise(own, z, jnp.zeros(1), context, environment, gate)  # noqa: E731
    return flops.count(jax.make_jaxpr(run)(z)).total


def encoding(name):
    """Operations of V at one timestep."""
    codi, own = toy.codi(), variables()
    run = lambda z: codi[name].environment_tokens(own, z, jnp.zeros(1))  # noqa: E731
    return flops.count(jax.make_jaxpr(run)(jnp.zeros((N, *codi[name].latent_shape)))).total


def test_operations_of_a_sampling():
    """By hand. Each output makes three steps, the first outside of the interval; image is a step later than text."""
    evaluated = sum(cost(name, 1, 1) + 2 * cost(name, 3, 1) for name in PAIR)
    encoded = sum(3 * encoding(name) for name in PAIR)  # of four steps, in one the tokens are not read
    assert operations(INTERVAL, delay={"image": 1}) == evaluated + encoded
    assert operations(ClassifierFreeGuidance(3.0, 0.0)) == 3 * sum(cost(name, 2, 0) for name in PAIR)
    # X is evaluated on the branch that reads the environment only; with it, branches share less.
    once = cost("image", 1, 1) - cost("image", 1, 0)
    assert once < cost("image", 3, 1) - cost("image", 3, 0) < 2 * once


@pytest.mark.parametrize("loop, counts", [("host", (2, 2, 2, 2)), ("scan", (2, 2, 3, 4))])
def test_programs_depend_on_branches_and_not_on_scales(loop, counts):
    model = Generator(toy.codi(), GenerateConfig({}, steps=3, loop=loop), QuickPrograms())

    def compiled(rule):
        model.latents(variables(), ("text",), PROMPTS, N, KEY, guidance={"text": rule})
        return model.compiled_programs()

    rules = (
        INTERVAL,  # a program for one branch, and one for two
        ClassifierFreeGuidance(7.5, 4.0, low=0.2, high=0.9),
        PerSample(3.0, 4.0),  # two branches in all three steps, which is another scan
        ClassifierFreeGuidance(1.0),  # one branch in all three steps
    )
    assert tuple(map(compiled, rules)) == counts
