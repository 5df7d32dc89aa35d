"""A component that starts with what another one has learnt."""

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.train.loop import inherit


def test_leaves_of_one_path_and_shape_are_taken_over():
    fresh = {"block": {"kernel": np.zeros(2), "bias": np.zeros(1)}, "temporal": {"kernel": np.ones(3)}}
    other = {"block": {"kernel": np.array([5.0, 6.0]), "bias": np.zeros(4)}, "head": {"kernel": np.ones(1)}}
    made = inherit(fresh, other, "start")
    assert made.keys() == fresh.keys() and made["block"].keys() == fresh["block"].keys()
    np.testing.assert_array_equal(made["block"]["kernel"], [5, 6])
    np.testing.assert_array_equal(made["block"]["bias"], [0])  # of another shape
    np.testing.assert_array_equal(made["temporal"]["kernel"], 1)


def test_nothing_in_common_is_an_error():
    with pytest.raises(ConfigError, match="start: the two components have no parameter in common"):
        inherit({"a": np.zeros(2)}, {"b": np.zeros(2)}, "start")
