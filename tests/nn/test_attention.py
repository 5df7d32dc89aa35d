"""Attention over weighted tokens."""

import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.nn.attention import Attention, attend
from codi_jax.types import MASKED, Tokens
from tests.nn import toy


@pytest.fixture(scope="module")
def setup():
    x = toy.normal(0, toy.B, 5, 16)
    module = Attention(heads=4)
    return module, toy.init(module, x, toy.CONTEXT), x


def test_scores_are_scaled_by_the_width_of_a_head():
    q, k, v = (toy.normal(seed, 1, 3, 1, 4) for seed in range(3))
    scores = np.exp(np.einsum("pd,ld->pl", q[0, :, 0], k[0, :, 0]) / 2)
    want = scores / scores.sum(-1, keepdims=True) @ v[0, :, 0]
    np.testing.assert_allclose(attend(q, k, v)[0, :, 0], want, atol=1e-5)


def test_a_masked_token_has_no_effect(setup):
    module, params, x = setup
    values = toy.CONTEXT.values
    junk = jnp.concatenate([values, 100 * values[:, :1]], axis=1)
    bias = jnp.array([[0.0, 0.0, MASKED]] * toy.B)
    masked = toy.apply(module, params, x, Tokens(junk, bias))
    np.testing.assert_allclose(masked, toy.apply(module, params, x, toy.CONTEXT), atol=1e-6)


def test_a_token_of_weight_two_counts_twice(setup):
    module, params, x = setup
    values = toy.CONTEXT.values
    heavy = Tokens(values, jnp.log(jnp.array([[2.0, 1.0]] * toy.B)))
    twice = Tokens.of(jnp.concatenate([values[:, :1], values], axis=1))
    np.testing.assert_allclose(toy.apply(module, params, x, heavy), toy.apply(module, params, x, twice), atol=1e-6)


def test_attention_to_a_fully_masked_context_is_finite(setup):
    module, params, x = setup
    out = toy.apply(module, params, x, Tokens(toy.CONTEXT.values, jnp.full((toy.B, 2), MASKED)))
    assert np.isfinite(out).all()
