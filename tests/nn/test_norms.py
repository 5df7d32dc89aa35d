"""Normalisations against their definitions."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from codi_jax.nn.norms import ClampedNorm, GroupNorm
from tests.nn import toy


def test_group_norm_is_flaxs_on_a_map_and_takes_frames_one_by_one():
    x = 3 + 5 * toy.normal(0, 2, 3, 4, 4, 16)
    ours = GroupNorm(4, positions=2, epsilon=1e-5)
    params = toy.init(ours, x)
    got = toy.apply(ours, params, x)
    flax = nn.GroupNorm(4, epsilon=1e-5, use_fast_variance=False)
    for frame in range(3):
        np.testing.assert_allclose(got[:, frame], flax.apply({"params": params}, x[:, frame]), atol=1e-5)


def test_group_norm_of_a_vector_is_over_its_groups_alone():
    x = toy.normal(0, 2, 8)
    got = GroupNorm(2, positions=0, epsilon=0.0).apply({"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}, x)
    groups = x.reshape(2, 2, 4)
    want = (groups - groups.mean(-1, keepdims=True)) / groups.std(-1, keepdims=True)
    np.testing.assert_allclose(got.reshape(2, 2, 4), want, atol=1e-5)


def test_statistics_are_float32_under_bfloat16():
    # Around 256 bfloat16 steps by 2: sums in it would lose the signal altogether.
    x = (256 + 2 * jnp.arange(64.0).reshape(1, 64, 1) % 8).astype(jnp.bfloat16)
    norm = GroupNorm(1, positions=1, dtype=jnp.bfloat16)
    params = {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
    got = norm.apply({"params": params}, x)
    want = norm.clone(dtype=jnp.float32).apply({"params": params}, x.astype(jnp.float32))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.01)


def test_clamped_norm_removes_what_all_frames_share_and_never_divides_by_less_than_epsilon():
    norm = ClampedNorm(axis=1, epsilon=1e-5)
    params = {"scale": jnp.array([1.0, 2.0])}
    x = toy.normal(0, 1, 5, 2)
    got = norm.apply({"params": params}, x)
    np.testing.assert_allclose(got, norm.apply({"params": params}, x + 4), atol=1e-5)
    np.testing.assert_allclose(got.std(1), [[1.0, 2.0]], atol=1e-5)
    small = 1e-4 * x
    want = (small - small.mean(1, keepdims=True)) / np.sqrt(1e-5) * params["scale"]
    np.testing.assert_allclose(norm.apply({"params": params}, small), want, atol=1e-7)
