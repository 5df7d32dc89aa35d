"""What the configs say stays the same, whatever way they are written."""

import importlib
import json
from pathlib import Path

import pytest

from codi_jax.config import ConfigError, from_dict, to_dict
from codi_jax.train import encoded
from codi_jax.train.recipe import RunConfig, load_run, open_run, save_config
from codi_jax.train.reuse import definition
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
    with pytest.raises(ConfigError, match=r"^config argument 'siez': unknown.*; this config knows "):
        importlib.import_module(f"configs.{name}").get_config("siez")


def test_the_run_of_a_workdir_from_before_presets_goes_on(tmp_path):
    """Its config.json leaves more fields to their defaults, and says the same."""
    (tmp_path / "config.json").write_text(Path(__file__).with_name("saved_before_presets.json").read_text())
    config = importlib.import_module("configs.demo").get_config("tiny")
    save_config(config, tmp_path, write=False)
    saved, given = load_run(tmp_path), open_run(config, tmp_path)
    assert saved.order == given.order
    for name in given.order:
        assert definition(saved, name) == definition(given, name)
        assert given.stage(name).trains or encoded.inputs(saved, name) == encoded.inputs(given, name)
