"""All stages of a recipe are checked before the first one starts: their objectives, their sources, sharding rules."""

import re

import pytest
from ml_collections import ConfigDict

from codi_jax.config import ConfigError
from codi_jax.train.program import check_objectives, check_sharding_rules
from codi_jax.train.recipe import open_run
from codi_jax.train.trainer import train
from tests import toy


def run_with(workdir, *rules):
    config = toy.config()
    config.sharding = {"rules": rules}
    return open_run(config, workdir)


def test_a_rule_that_matches_no_parameter_is_an_error_before_the_first_stage_starts(tmp_path):
    run = run_with(tmp_path, ("text_unet/.*/kernel", ()), ("vision_unet/.*/weight", ()))
    message = r"^config\.sharding\.rules: no parameter of any stage matches 'vision_unet/\.\*/weight'$"
    with pytest.raises(ConfigError, match=message):
        train(run, quiet=True)
    assert not list(tmp_path.iterdir())


def test_rules_for_parameters_of_one_stage_and_for_its_optimizer_state_match(tmp_path):
    check_sharding_rules(run_with(tmp_path, ("text_cross/.*", ()), ("opt_state/.*/mu/vision_codec/.*", ())))


@pytest.mark.parametrize(
    ("stage", "lacking"), [("ldm.image", "image"), ("ldm.text", ""), ("joint.text+image", "image")]
)
def test_a_stage_needs_its_modalities_in_all_samples_but_prompts(tmp_path, stage, lacking):
    """Else it would train on zeros where one of its encode stages has none."""
    tree = toy.config().to_dict()
    first = tree["stages"]["encode"]["text+image"]
    tree["stages"]["encode"]["text"] = {**first, "modalities": ("text",)}
    group, name = stage.split(".")
    tree["stages"][group][name]["source"] = ("encode.text+image", "encode.text")
    run = open_run(ConfigDict(tree), tmp_path)
    if not lacking:
        check_objectives(run, [stage])
        return
    message = f"^stage '{re.escape(stage)}': source: not all of its encode stages have {lacking}, which the loss needs$"
    with pytest.raises(ConfigError, match=message):
        check_objectives(run, [stage])
