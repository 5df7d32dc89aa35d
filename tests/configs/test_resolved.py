"""What the configs say stays the same, whatever way they are written."""

import importlib
import json

import pytest

from codi_jax.config import ConfigError, from_dict, to_dict
from codi_jax.train.recipe import RunConfig
from tests.configs import resolved

RECORD = json.loads(resolved.RECORD.read_text())


@pytest.mark.parametrize(("name", "argument"), [(n, a) for n, known in resolved.ARGUMENTS.items() for a in known])
def test_a_config_says_what_it_said(name, argument):
    config = importlib.import_module(f"configs.{name}")
    assert resolved.resolved(config.get_config, argument) == RECORD[f"{name}:{argument}"]


@pytest.mark.parametrize("name", resolved.ARGUMENTS)
def test_a_config_dict_is_the_typed_config_with_every_field(name):
    tree = importlib.import_module(f"configs.{name}").get_config("")
    config = from_dict(RunConfig, tree)
    assert {*to_dict(config)} == {*tree.keys()} and to_dict(config)["stages"] == tree.to_dict()["stages"]
    stage = next(iter(next(iter(tree.stages.values())).values()))
    stage.optimizer.lr_multipliers = (("a", 2.0),)  # fields with defaults can be overridden, too
    with pytest.raises((AttributeError, KeyError)):
        stage.lock().optimizer.lr_multiplier = ()


@pytest.mark.parametrize("name", resolved.ARGUMENTS)
def test_an_unknown_option_is_one_line(name):
    with pytest.raises(ConfigError, match=r"^config argument 'tiney': unknown; this config knows "):
        importlib.import_module(f"configs.{name}").get_config("tiney")
