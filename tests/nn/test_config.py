"""Configs that cannot be built are refused in one line."""

import dataclasses

import pytest

from codi_jax.config import ConfigError, from_dict
from codi_jax.nn import UNetConfig
from tests.nn import toy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": (1, 1, 1)}, "blocks: 3 levels, but multipliers has 2"),
        ({"attention_levels": (True,)}, "attention_levels: 1 levels"),
        ({"groups": 24}, "no multiple of groups = 24"),
        ({"heads": 5}, "5 heads do not divide"),
        ({"kind": "graph"}, "expected 'spatial' or 'vector'"),
        ({"channels": 33}, "has to be even"),
        ({"kind": "vector", "temporal": True}, "a vector has no frames"),
    ],
)
def test_an_impossible_unet_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(toy.SPATIAL, **change)


def test_an_impossible_environment_encoder_is_refused():
    with pytest.raises(ConfigError, match="16 is no multiple of groups = 32"):
        dataclasses.replace(toy.SPATIAL_ENVIRONMENT, groups=32)
    # A vector's stem is normalised flat, over its tokens too.
    dataclasses.replace(toy.VECTOR_ENVIRONMENT, groups=32)
    with pytest.raises(ConfigError, match="expected 'pooled' or 'map'"):
        dataclasses.replace(toy.SPATIAL_ENVIRONMENT, tokens="all")


def test_a_config_is_a_view_of_plain_data():
    fields = dataclasses.asdict(toy.VIDEO)
    assert from_dict(UNetConfig, fields) == toy.VIDEO
    with pytest.raises(ConfigError, match="unknown key"):
        from_dict(UNetConfig, {**fields, "chanels": 3})
