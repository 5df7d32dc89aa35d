"""Parameters are initialized and read as by flax alone, but for the initializers, which are traced once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamNotFoundError, ScopeParamShapeError

from codi_jax.nn.parameters import ReadsParameters

X = jnp.ones((2, 3))
KEY = jax.random.key(0)


class Dense(ReadsParameters, nn.Dense):
    pass


def test_initial_and_read_values_are_those_of_flax():
    ours, theirs = Dense(4).init(KEY, X), nn.Dense(4).init(KEY, X)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    np.testing.assert_array_equal(Dense(4).apply(ours, X), nn.Dense(4).apply(ours, X))


def test_an_initializer_is_not_traced_when_its_parameter_is_read():
    traced = []

    def initializer(key, shape, dtype):
        traced.append(shape)
        return jnp.ones(shape, dtype)

    net = Dense(4, kernel_init=initializer)
    variables = net.init(KEY, X)
    net.apply(variables, X)
    assert traced == [(3, 4)]


def test_a_parameter_of_another_shape_is_refused():
    variables = Dense(4).init(KEY, X)
    with pytest.raises(ScopeParamShapeError, match=r"generate shape \(3, 5\), .* has shape \(3, 4\)"):
        Dense(5).apply(variables, X)


def test_a_missing_parameter_is_named():
    with pytest.raises(ScopeParamNotFoundError, match="kernel"):
        Dense(4).apply({"params": {"bias": jnp.zeros(4)}}, X)
