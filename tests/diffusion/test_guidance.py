import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.diffusion import guidance, process
from codi_jax.diffusion.guidance import ALONE, JOINT, RELEASE, ClassifierFreeGuidance

T = 1000
RNG = np.random.default_rng(0)
U, C, C_ENV = RNG.normal(size=(3, 2, 4)).astype(np.float32)


def guided(branches, predictions, t=500, **scales):
    coefficients = ClassifierFreeGuidance(**scales).coefficients(T)
    return guidance.combine(jnp.stack(predictions), coefficients(t, branches))


@pytest.mark.parametrize("s, g", [(0.0, 0.0), (1.0, 2.0), (7.5, 0.0), (2.0, 6.0)])
def test_joint_guidance_is_equation_1(s, g):
    got = guided(JOINT, [U, C, C_ENV], prompt=s, environment=g)
    np.testing.assert_allclose(got, U + s * (C - U) + g * (C_ENV - C), atol=2e-5)


def test_scales_of_zero_and_one_select_a_branch():
    selected = {(0.0, 0.0): U, (1.0, 0.0): C, (1.0, 1.0): C_ENV}
    for (s, g), want in selected.items():
        np.testing.assert_array_equal(guided(JOINT, [U, C, C_ENV], prompt=s, environment=g), want)
    for branches in (ALONE, RELEASE):
        np.testing.assert_array_equal(guided(branches, [U, C], prompt=0.0), U)
        np.testing.assert_array_equal(guided(branches, [U, C], prompt=1.0), C)


@pytest.mark.parametrize("branches", [ALONE, RELEASE])
def test_two_branches_are_classifier_free_guidance(branches):
    np.testing.assert_allclose(guided(branches, [U, C], prompt=7.5), U + 7.5 * (C - U), atol=2e-5)


@pytest.mark.parametrize("branches", [JOINT, ALONE, RELEASE])
def test_outside_the_interval_guidance_is_the_last_branch(branches):
    coefficients = ClassifierFreeGuidance(prompt=3.0, environment=2.0, low=0.2, high=0.7).coefficients(T)
    got = coefficients(jnp.array([199, 200, 700, 701]), branches)
    assert got.shape == (len(branches), 4)
    last = np.eye(len(branches))[-1]
    np.testing.assert_array_equal(got[:, 0], last)
    np.testing.assert_array_equal(got[:, 3], last)
    for i in (1, 2):
        np.testing.assert_array_equal(got[:, i], coefficients(500, branches))
        assert not np.array_equal(got[:, i], last)


def test_coefficients_per_sample():
    coefficients = ClassifierFreeGuidance(prompt=3.0, high=0.7).coefficients(T)
    got = guidance.combine(jnp.stack([U, C]), coefficients(jnp.array([100, 900]), ALONE))
    np.testing.assert_allclose(got[0], U[0] + 3 * (C[0] - U[0]), atol=1e-5)
    np.testing.assert_array_equal(got[1], C[1])


@pytest.mark.parametrize("source", sorted(process.KINDS))
@pytest.mark.parametrize("to", sorted(process.KINDS))
def test_guidance_commutes_with_conversion(source, to):
    z_t, alpha, sigma = U[::-1], np.float32(0.6), np.float32(0.8)
    coefficients = ClassifierFreeGuidance(prompt=4.0, environment=2.5).coefficients(T)(5, JOINT)
    stacked = jnp.stack([U, C, C_ENV])
    first = process.convert(guidance.combine(stacked, coefficients), z_t, alpha, sigma, source, to)
    last = guidance.combine(process.convert(stacked, z_t, alpha, sigma, source, to), coefficients)
    np.testing.assert_allclose(first, last, atol=5e-5)


def test_coefficients_are_evaluated_for_all_timesteps_at_once():
    t, rule = np.array([100, 500, 900]), ClassifierFreeGuidance(prompt=3.0, high=0.7).coefficients(T)
    got = guidance.evaluate(rule, t, JOINT, batch=2)
    assert got.shape == (3, 3, 2) and got.dtype == np.float32
    for own, row in zip(t, got, strict=True):
        np.testing.assert_array_equal(row, np.broadcast_to(rule(own, JOINT), (2, 3)).T)
    constant = jax.tree_util.Partial(lambda t, branches: jnp.array([0, 1]))
    np.testing.assert_array_equal(guidance.evaluate(constant, t, ALONE, batch=2)[0], [[0, 0], [1, 1]])


def test_branches_are_needed_where_a_coefficient_of_a_sample_is_not_zero():
    _, c, c_env = JOINT
    assert guidance.needed(np.float32([0, -1, 2]), JOINT) == (c, c_env)
    assert guidance.needed(np.float32([[0, 0], [0, 1e-30], [1, 1]]), JOINT) == (c, c_env)
    assert guidance.needed(np.float32([0, 0, 0]), JOINT) == JOINT


def test_without_a_prompt_equal_branches_are_one():
    coefficients = np.float32([[[-1], [-1], [3]]])  # [1, k, 1]
    np.testing.assert_array_equal(guidance.without_prompt(coefficients, JOINT), np.float32([[[0], [-2], [3]]]))
    np.testing.assert_array_equal(guidance.without_prompt(coefficients[:, 1:], RELEASE), np.float32([[[0], [2]]]))
    assert coefficients[0, 0, 0] == -1


def test_new_scales_do_not_recompile():
    traces = []

    @jax.jit
    def f(coefficients, t):
        traces.append(1)
        return coefficients(t, JOINT)

    for field in dataclasses.fields(ClassifierFreeGuidance):
        f(dataclasses.replace(ClassifierFreeGuidance(), **{field.name: 0.35}).coefficients(T), 4)
    assert len(traces) == 1


def test_unknown_branches_raise():
    with pytest.raises(ValueError, match="not defined for the branches"):
        ClassifierFreeGuidance().coefficients(T)(0, ALONE[:1])
