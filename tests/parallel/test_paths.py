import re

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.parallel import paths


def test_flatten_nest_and_replace_are_inverse():
    tree = {"unet": {"mid": {"kernel": np.ones(2), "bias": np.zeros(1)}}, "codec": {"kernel": np.ones(3)}}
    flat = paths.flatten(tree)
    assert list(flat) == ["codec/kernel", "unet/mid/bias", "unet/mid/kernel"]
    assert paths.nest(flat) == tree
    assert paths.replace(tree, dict.fromkeys(flat, 0)) == {
        "unet": {"mid": {"kernel": 0, "bias": 0}},
        "codec": {"kernel": 0},
    }


def test_two_leaves_with_one_path_are_refused():
    with pytest.raises(ValueError, match="a/b"):
        paths.flatten({"a/b": 1, "a": {"b": 2}})


def test_malformed_rules_are_refused():
    with pytest.raises(ConfigError, match=re.escape("rules: '(' is not a regular expression")):
        paths.compile_rules([("(", 1)], "rules")
    with pytest.raises(ConfigError, match="is a pair"):
        paths.compile_rules(["ab"], "rules")
