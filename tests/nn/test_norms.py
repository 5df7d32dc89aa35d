"""Norms against their definitions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.nn.norms import ClampedNorm, GroupNorm, Statistics, layer_norm, normalize
from tests.nn import toy


def test_group_norm_of_a_map_matches_flax_for_each_frame():
    x = 3 + 5 * toy.normal(0, 2, 3, 4, 4, 16)
    ours = GroupNorm(4, positions=2, epsilon=1e-5)
    params = toy.init(ours, x)
    got = toy.apply(ours, params, x)
    flax = nn.GroupNorm(4, epsilon=1e-5, use_fast_variance=False)
    for frame in range(3):
        np.testing.assert_allclose(got[:, frame], flax.apply({"params": params}, x[:, frame]), atol=1e-5)


def test_group_norm_of_a_vector_is_over_its_groups():
    x = toy.normal(0, 2, 8)
    got = GroupNorm(2, positions=0, epsilon=0.0).apply({"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}, x)
    groups = x.reshape(2, 2, 4)
    want = (groups - groups.mean(-1, keepdims=True)) / groups.std(-1, keepdims=True)
    np.testing.assert_allclose(got.reshape(2, 2, 4), want, atol=1e-5)


def test_statistics_are_float32_under_bfloat16():
    # Near 256 the spacing of bfloat16 is 2, so that sums in it would lose the signal.
    x = (256 + 2 * jnp.arange(64.0).reshape(1, 64, 1) % 8).astype(jnp.bfloat16)
    norm = GroupNorm(1, positions=1, dtype=jnp.bfloat16)
    params = {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
    got = norm.apply({"params": params}, x)
    want = norm.clone(dtype=jnp.float32).apply({"params": params}, x.astype(jnp.float32))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.01)


def test_clamped_norm_subtracts_the_mean_over_frames_and_clamps_the_variance():
    norm = ClampedNorm(axis=1, epsilon=1e-5)
    params = {"scale": jnp.array([1.0, 2.0])}
    x = toy.normal(0, 1, 5, 2)
    got = norm.apply({"params": params}, x)
    np.testing.assert_allclose(got, norm.apply({"params": params}, x + 4), atol=1e-5)
    np.testing.assert_allclose(got.std(1), [[1.0, 2.0]], atol=1e-5)
    small = 1e-4 * x
    want = (small - small.mean(1, keepdims=True)) / np.sqrt(1e-5) * params["scale"]
    np.testing.assert_allclose(norm.apply({"params": params}, small), want, atol=1e-7)


def test_layer_norm_matches_flax():
    x = 3 + 5 * toy.normal(0, 2, 7, 16)
    ours, flax = layer_norm(jnp.float32, "norm"), nn.LayerNorm(epsilon=1e-5, use_fast_variance=False)
    params = toy.init(ours, x)
    np.testing.assert_allclose(ours.apply({"params": params}, x), flax.apply({"params": params}, x), atol=1e-5)


def test_the_variance_of_bfloat16_in_one_pass_equals_that_in_two():
    """Up to a mean of 100 standard deviations; the same numbers in float32 take two passes."""
    x = (100 + toy.normal(0, 2, 8, 8, 32)).astype(jnp.bfloat16)
    over, one = Statistics((-3, -2), 4, 1e-5), jnp.ones(32)
    single, double = (normalize(y, one, 0 * one, over, jnp.float32) for y in (x, x.astype(jnp.float32)))
    np.testing.assert_allclose(single, double, atol=5e-3)


def by_definition(x, scale, bias, over, silu):
    """The definition of `normalize`, differentiated automatically in float64."""
    shape = x.shape
    x = x.reshape(*shape[:-1], over.groups, -1)
    axes = (*(axis - 1 for axis in over.axes), -1)
    x = x - x.mean(axes, keepdims=True)
    variance = (x * x).mean(axes, keepdims=True)
    variance = jnp.maximum(variance, over.epsilon) if over.clamped else variance + over.epsilon
    y = (x / jnp.sqrt(variance)).reshape(shape) * scale
    y = y if bias is None else y + bias
    return y / (1 + jnp.exp(-y)) if silu else y


STATISTICS = {
    "map": Statistics((-3, -2), 4, 1e-5),
    "tokens": Statistics((-2,), 2, 1e-5),
    "vector": Statistics((), 4, 1e-5),
    "layer": Statistics((), 1, 1e-5),
    "channels, clamped": Statistics((), 1, 1e-5, clamped=True),
    "frames, clamped": Statistics((-4,), 8, 1e-5, clamped=True),
}


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("kind", STATISTICS)
def test_the_derivative_matches_that_of_the_definition(kind, silu):
    """With respect to all arguments; for clamped norms, half of the samples have a variance below ε."""
    over = STATISTICS[kind]
    rng = np.random.default_rng(0)
    shape = (4, 3, 2, 5, 8)
    x, g = rng.standard_normal(shape), rng.standard_normal(shape)
    if over.clamped:
        x[:2] *= 1e-3
    arguments = x, 1 + 0.1 * rng.standard_normal(8), None if over.clamped else rng.standard_normal(8)
    with jax.enable_x64(True):
        want, pullback = jax.vjp(lambda *a: by_definition(*a, over, silu), *map(_float64, arguments))
        wanted = jax.device_get(pullback(jnp.float64(g)))
    single = [None if a is None else jnp.float32(a) for a in arguments]
    got, pullback = jax.vjp(lambda *a: normalize(*a, over, jnp.float32, silu), *single)
    np.testing.assert_allclose(got, want, atol=1e-5)
    for ours, exact in zip(pullback(jnp.float32(g)), wanted, strict=True):
        if exact is not None:
            np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-5 * np.abs(exact).max())


def _float64(a):
    return None if a is None else jnp.float64(a)


def test_gradients_have_the_dtypes_of_their_arguments():
    x, scale = jnp.ones((2, 3, 8), jnp.bfloat16), jnp.ones(8, jnp.float32)
    over = Statistics((-2,), 2, 1e-5)
    y, pullback = jax.vjp(lambda *a: normalize(*a, over, jnp.bfloat16), x, scale, scale.astype(jnp.bfloat16))
    assert [a.dtype.name for a in (y, *pullback(y))] == ["bfloat16", "bfloat16", "float32", "bfloat16"]
