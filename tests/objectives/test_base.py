"""The registry of objectives: built-in ones by name, others by `register`, unknown ones by an error."""

import dataclasses

import pytest

from codi_jax.config import ConfigError
from codi_jax.objectives import base
from codi_jax.train.program import objective_of
from codi_jax.train.recipe import open_run
from tests import toy


def test_every_stage_of_the_recipe_finds_its_objective_by_name():
    run = open_run(toy.recipe(toy.EVERYTHING) | {"model": toy.model(toy.EVERYTHING)}, None)
    found = {name: objective_of(run, name) for name in run.order if run.stage(name).trains}
    assert {run.stage(name).objective for name in found} == {"codec", "bridging", "ldm", "latent_alignment"}
    for name, objective in found.items():
        assert set(objective.components) >= {rule.split("/")[0].strip("!") for rule in run.stage(name).trainable}, name


def test_an_unknown_objective_is_an_error_that_names_the_known_ones():
    tree = toy.recipe()
    tree["stages"]["ldm"]["text"]["objective"] = "gan"
    names = "codec", "bridging", "ldm", "latent_alignment", "timing", "distillation", "parts", "judge", "similarity"
    known = ", ".join(f"'{name}'" for name in (*names, "encode"))
    with pytest.raises(ConfigError, match=rf"^config\.stages\.ldm\.text\.objective: expected one of {known}.*'gan'$"):
        open_run(tree, None)
    with pytest.raises(ConfigError, match=r"^no objective 'gan'; there are codec, "):
        base.make_objective("gan", toy.codi(), base.StageSpec(("text",), {}))


@pytest.mark.usefixtures("restored_registries")
def test_a_class_from_outside_is_found_by_its_name_and_takes_no_other_name():
    @base.register("mine")
    @dataclasses.dataclass(frozen=True)
    class Mine:
        stage: base.StageSpec

        @classmethod
        def from_stage(cls, codi, stage):
            return cls(stage)

    stage = base.StageSpec(("text",), {"weight": 2})
    assert base.make_objective("mine", toy.codi(), stage) == Mine(stage)
    assert "mine" in base.OBJECTIVES
    with pytest.raises(ValueError, match=r"^objective 'mine' is registered already"):
        base.register("mine")(type("Other", (), {}))


def test_objectives_that_compare_samples_refuse_accumulation():
    tree = toy.recipe()
    tree["stages"]["joint"]["text+image"]["accumulate"] = 2
    tree["stages"]["joint"]["text+image"]["settings"]["align"] = "contrastive"
    with pytest.raises(ConfigError, match="align: contrastive compares all samples of a batch"):
        objective_of(open_run(tree, None), "joint.text+image")
