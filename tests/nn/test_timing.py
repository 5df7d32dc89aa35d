"""Attention in time: rotation by seconds, what it starts from, and that the same moments meet at any rate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.nn import EnvironmentConfig, EnvironmentEncoder
from codi_jax.nn.calls import apply, init
from codi_jax.nn.config import TimingConfig
from codi_jax.nn.environment import TimeHead
from codi_jax.nn.layout import timing_steps
from codi_jax.nn.timing import TimedBlock, TimingAttention, rotate, seconds
from codi_jax.types import MASKED, TimedTokens
from tests.nn import toy

E = 8
ENCODER = EnvironmentConfig(
    kind="spatial", latent_channels=4, channels=16, width=E, multipliers=(1, 2), blocks=(1, 1), groups=4, tokens="time"
)
TIMING = TimingConfig(encoder=ENCODER, levels=(True, False), heads=2, periods=(0.2, 4.0))


def tokens(steps=3, duration=1.0, batch=2, seed=0):
    values = jax.random.normal(jax.random.key(seed), (batch, steps, E))
    return TimedTokens(values, jnp.zeros((batch, steps)), jnp.broadcast_to(seconds(duration, steps), (batch, steps)))


def random_params(params, seed=1):
    """No parameter is zero, unlike in an initialized block."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten([jax.random.normal(key, x.shape) * 0.3 for key, x in zip(keys, leaves, strict=True)])


def block(h, of, duration=1.0, params=None):
    module = TimedBlock(TIMING, 4, duration)
    params = random_params(init(module, jax.random.key(0), h, of)) if params is None else params
    return apply(TimedBlock.__call__, module, params, h, of)


def test_the_middles_of_equal_parts():
    np.testing.assert_allclose(seconds(2.0, 4), [0.25, 0.75, 1.25, 1.75])


def test_a_rotation_by_hand_depends_on_differences_alone():
    x = jnp.arange(1.0, 6.0).reshape(1, 1, 1, 5)  # two pairs, (1, 3) and (2, 4), and 5, which stays
    turned = np.asarray(rotate(x, jnp.array([[0.25]]), (1.0, 4.0)))[0, 0, 0]
    c, s = np.cos(np.pi / 8), np.sin(np.pi / 8)
    np.testing.assert_allclose(turned, [-3, 2 * c - 4 * s, 1, 2 * s + 4 * c, 5], atol=1e-5)
    q, k = (jax.random.normal(key, (1, 1, 1, 6)) for key in jax.random.split(jax.random.key(0)))

    def score(at_q, at_k):
        a, b = (rotate(x, jnp.array([[at]]), (0.1, 3.0)) for x, at in ((q, at_q), (k, at_k)))
        return float((a * b).sum())

    assert score(0.3, 0.1) == pytest.approx(score(5.3, 5.1), abs=1e-3)
    assert abs(score(0.3, 0.1) - score(0.3, 0.2)) > 1e-2


def test_a_model_starts_from_what_it_was_without_it():
    h = jax.random.normal(jax.random.key(3), (2, 4, 4, 16))
    attention = TimingAttention(TIMING, toy.SPATIAL, 1.0)
    (place,) = {step.place for step in timing_steps(toy.SPATIAL, TIMING.levels)} & {("inputs", 1)}
    params = init(attention, jax.random.key(0), place, h, tokens())
    np.testing.assert_array_equal(apply(TimingAttention.__call__, attention, params, place, h, tokens()), h)


def test_the_same_moment_is_read_at_any_rate():
    """The middle of three columns, of one, and of three frames are at the same time."""
    feature = jax.random.normal(jax.random.key(4), (2, 1, 1, 16))
    columns, of = jnp.broadcast_to(feature, (2, 3, 2, 16)), tokens(steps=5)
    params = random_params(init(TimedBlock(TIMING, 4, 1.0), jax.random.key(0), columns, of))
    three = np.asarray(block(columns, of, params=params))
    np.testing.assert_allclose(block(columns[:, :1], of, params=params)[:, 0], three[:, 1], atol=1e-5)
    np.testing.assert_allclose(block(columns[:, :, None], of, params=params)[:, 1, 0], three[:, 1], atol=1e-5)
    assert np.abs(three[:, 0] - three[:, 1]).max() > 1e-3
    late = TimedTokens(of.values, of.bias, of.seconds + 1 / 3)  # a column later
    np.testing.assert_allclose(np.asarray(block(columns, late, params=params))[:, 1:], three[:, :2], atol=1e-4)


def test_masked_tokens_change_nothing_and_none_at_all_close_the_gate():
    h = jax.random.normal(jax.random.key(3), (2, 4, 4, 16))
    attention, place = TimingAttention(TIMING, toy.SPATIAL, 1.0), ("inputs", 1)
    of = tokens(4)
    params = random_params(init(attention, jax.random.key(0), place, h, of))

    def attend(of):
        return np.asarray(apply(TimingAttention.__call__, attention, params, place, h, of))

    first = TimedTokens(of.values[:, :2], of.bias[:, :2], of.seconds[:, :2])
    masked = TimedTokens(of.values, of.bias.at[:, 2:].set(MASKED), of.seconds)
    np.testing.assert_allclose(attend(masked), attend(first), atol=1e-5)
    assert np.abs(attend(of) - attend(first)).max() > 1e-3
    closed = TimedTokens(of.values, of.bias.at[0].set(MASKED), of.seconds)
    np.testing.assert_array_equal(attend(closed)[0], h[0])
    assert np.abs(attend(closed)[1] - h[1]).max() > 1e-3


def test_the_encoder_keeps_time():
    """A token for each column or frame of the last block, which reads all positions of its time and no other."""
    emb = jnp.zeros((2, 64))
    for options, shape, steps in (({}, (2, 8, 4, 4), 4), ({"temporal": True}, (2, 3, 4, 4, 4), 3)):
        encoder = EnvironmentEncoder(dataclasses.replace(ENCODER, **options))
        z = jax.random.normal(jax.random.key(0), shape)
        params = init(encoder, jax.random.key(1), z, emb)
        assert apply(EnvironmentEncoder.__call__, encoder, params, z, emb).shape == (2, steps, E)
    head, h = TimeHead(ENCODER), jax.random.normal(jax.random.key(2), (2, 3, 2, 2, 8))
    params = init(head, jax.random.key(1), h)
    # Norms of the same features in another place and at another time are the same, so that tokens only move.
    rolled, plain = (np.asarray(apply(TimeHead.__call__, head, params, x)) for x in (jnp.roll(h, 1, axis=1), h))
    np.testing.assert_allclose(rolled, np.roll(plain, 1, axis=1), atol=1e-5)
    turned = np.asarray(apply(TimeHead.__call__, head, params, h[:, :, ::-1]))
    assert np.abs(turned - plain).max() > 0.1  # where something is matters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"periods": (2.0, 1.0)}, "periods: expected the shorter one first, got 2 and 1"),
        ({"encoder": toy.SPATIAL_ENVIRONMENT}, "encoder.tokens: expected 'time', got 'pooled'"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        TimingConfig(**{"encoder": ENCODER, "levels": (True,), **change})
