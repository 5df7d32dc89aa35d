"""The 3×3 convolution against linen's, in both of its implementations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.nn.conv import Conv3x3, by_product
from tests.nn import toy


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 4), (3, 2), (4, 4), (5, 3)])
def test_maps_of_all_sizes_match_linen(size, stride):
    x = toy.normal(0, 2, *size, 3)
    module = Conv3x3(5, stride=stride)
    params = toy.init(module, x)
    want = nn.Conv(5, (3, 3), strides=stride, padding=1).apply({"params": params}, x)
    got = module.apply({"params": params}, x)
    np.testing.assert_allclose(got, want, atol=1e-5)
    frames = module.apply({"params": params}, jnp.stack([x, 2 * x], axis=1))
    np.testing.assert_allclose(frames[:, 0], got, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_wide_maps_of_few_positions_are_products_on_cpu(stride):
    assert by_product(256, 256) and not by_product(256, 255) and not by_product(257, 256) and by_product(8, 1)
    x, module = toy.normal(0, 1, 6, 4, 256), Conv3x3(8, stride=stride)
    params = toy.init(module, x)
    program = jax.make_jaxpr(lambda p, x: module.apply({"params": p}, x))(params, x)
    assert "conv_general_dilated" not in str(program)
    want = nn.Conv(8, (3, 3), strides=stride, padding=1).apply({"params": params}, x)
    np.testing.assert_allclose(module.apply({"params": params}, x), want, atol=2e-5)


def test_the_kernel_can_be_initialised_with_zeros():
    params = Conv3x3(5, zero=True).init(toy.KEY, jnp.ones((1, 2, 2, 3)))["params"]
    assert not params["kernel"].any()
    assert params["kernel"].shape == (3, 3, 3, 5)
