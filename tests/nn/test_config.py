"""Invalid configs raise a one-line error."""

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
        ({"groups": 24}, "not a multiple of groups = 24"),
        ({"heads": 5}, "5 heads do not divide"),
        ({"kind": "graph"}, "expected one of 'spatial', 'sequence', 'vector'"),
        ({"channels": 33}, "must be even"),
        ({"kind": "vector", "temporal": True}, "a vector has no frames"),
        ({"kind": "sequence", "temporal": True}, "a sequence has no frames"),
    ],
)
def test_an_invalid_unet_config_raises(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(toy.SPATIAL, **change)


def test_an_invalid_environment_config_raises():
    with pytest.raises(ConfigError, match="16 is not a multiple of groups = 32"):
        dataclasses.replace(toy.SPATIAL_ENVIRONMENT, groups=32)
    # The stem of a vector is normalised with its tokens flattened.
    dataclasses.replace(toy.VECTOR_ENVIRONMENT, groups=32)
    with pytest.raises(ConfigError, match="expected one of 'pooled', 'map'"):
        dataclasses.replace(toy.SPATIAL_ENVIRONMENT, tokens="all")


def test_a_config_is_read_from_a_dict_also_by_its_old_keys():
    fields = dataclasses.asdict(toy.VIDEO)
    assert from_dict(UNetConfig, fields) == toy.VIDEO
    old = {**fields, "attend": fields["attention_levels"], "connect": fields["cross_modal_levels"]}
    del old["attention_levels"], old["cross_modal_levels"]
    with pytest.warns(FutureWarning, match="is now called"):
        assert from_dict(UNetConfig, old) == toy.VIDEO
    with pytest.raises(ConfigError, match="unknown key"):
        from_dict(UNetConfig, {**fields, "chanels": 3})
