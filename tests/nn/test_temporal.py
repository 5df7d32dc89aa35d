"""The temporal layer: delays, invariances and limits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.nn.temporal import PositionBias, Temporal, TemporalAttention, delay, delay_chunks
from tests.nn import toy


def test_delay_shifts_zeros_in_and_drops_the_end():
    x = jnp.arange(1.0, 4.0).reshape(1, 3, 1)
    assert delay(x, 0).ravel().tolist() == [1, 2, 3]
    assert delay(x, 1).ravel().tolist() == [0, 1, 2]
    assert delay(x, 3).ravel().tolist() == delay(x, 5).ravel().tolist() == [0, 0, 0]


def test_the_last_chunk_of_odd_channels_is_smaller():
    x = jnp.ones((1, 2, 5))
    assert delay_chunks(x, 2)[0, 0].tolist() == [1, 1, 1, 0, 0]
    assert delay_chunks(jnp.ones((1, 4, 8)), 8).sum(1)[0].tolist() == [4, 3, 2, 1, 0, 0, 0, 0]


def test_the_bias_depends_on_the_signed_distance():
    module = PositionBias(8, 3)
    bias = module.apply({"params": module.init(jax.random.key(0), 4)["params"]}, 4)
    assert bias.shape == (3, 4, 4)
    np.testing.assert_allclose(bias[:, :-1, :-1], bias[:, 1:, 1:], atol=1e-6)
    assert not np.allclose(bias[:, 0, 1], bias[:, 1, 0])


def test_the_frame_rate_has_no_effect():
    module, x = TemporalAttention(toy.VIDEO), toy.normal(0, 1, 3, 2, 2, 32)
    params = toy.init(module, x)
    other = {**params, "frame_rate": params["frame_rate"] + 1}
    np.testing.assert_allclose(toy.apply(module, params, x), toy.apply(module, other, x), atol=1e-4)


def test_attention_mixes_frames_and_not_positions():
    module, x = TemporalAttention(toy.VIDEO), toy.normal(0, 1, 3, 2, 2, 32)
    params = toy.init(module, x)
    change = toy.apply(module, params, x.at[0, 2, 0, 0].add(toy.normal(5, 32))) - toy.apply(module, params, x)
    assert np.abs(change[0, 0, 0, 0]).max() > 1e-3
    assert np.abs(change[0, :, 1]).max() == 0


def test_more_frames_than_positions_raise():
    config = dataclasses.replace(toy.VIDEO, max_frames=2)
    with pytest.raises(ConfigError, match="3 frames, but the temporal layers have 2 positions"):
        Temporal(config).init(jax.random.key(0), jnp.ones((1, 3, 2, 2, 32)))
