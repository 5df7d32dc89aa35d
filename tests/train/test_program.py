"""Sharding rules are compared with all stages of a recipe before the first one starts."""

import pytest

from codi_jax.config import ConfigError
from codi_jax.train.program import check_sharding_rules
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
