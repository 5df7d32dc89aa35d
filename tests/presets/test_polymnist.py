"""The recipe of polymnist: what its stages see, and that they train."""

import itertools

import pytest

from codi_jax import polymnist
from codi_jax.config import ConfigError
from codi_jax.presets.polymnist.recipe import ENVIRONMENT_NOISE, run
from codi_jax.train.recipe import Run, named_sources, open_run
from tests import registries

registries.forget_polymnist()


@pytest.fixture(scope="module", autouse=True)
def plugin():
    with registries.polymnist():
        yield


def seen_by(config, name):
    """The configs of the sources of polymnist that a stage reads, directly or by encode stages."""
    read = Run(config, None)
    for source in named_sources(read.stage(name).source):
        if source in read.stages:
            yield from seen_by(config, source)
        else:
            tree = config.sources[source]
            yield from tree.get("parts", {"": tree}).values()


def pairs_of(config):
    """The sets of modalities that any stage sees together."""
    return {frozenset(tree["modalities"]) for name in Run(config, None).order for tree in seen_by(config, name)}


def test_pairs_are_those_with_view_1_alone():
    """The sets of two; a source of both labels is read by the codecs, which see one at a time."""
    config = run()
    codecs = {name for name in Run(config, None).order if name.startswith("codec.")}
    assert all(len(Run(config, None).stage(name).modalities) == 1 for name in codecs)
    for name in set(Run(config, None).order) - codecs:
        for tree in seen_by(config, name):
            assert "view_1" in tree["modalities"] and len(tree["modalities"]) <= 2 and tree["complete"] == 1
    assert len(pairs_of(config)) == 6  # view_1 alone, with each other, and the labels


def test_no_sample_is_in_two_pools_of_pairs():
    config = run()
    pools = {name: tree["seed"] for name, tree in config.sources.items() if name.startswith("view_1+")}
    assert len(set(pools.values())) == 4 and all(
        pools[name] == pools[f"{name} whole"] for name in pools if " " not in name
    )


def test_tuples_are_one_set_of_which_a_quarter_is_complete():
    config = run(pairs="tuples")
    pools = [frozenset(pair) for pair in itertools.combinations(polymnist.MODALITIES, 2)]
    assert {pair for pair in pairs_of(config) if len(pair) == 2} == set(pools)
    trees = [tree for name, tree in config.sources.items() if "+" in name]
    assert {(tree["seed"], tree["complete"]) for tree in trees} == {(20, 0.25)}
    assert len(config.sources["pools"]["parts"]) == len(config.stages["encode"]) == 10
    assert set(config.stages["ldm"]["digit"].settings["prompts"]["sources"]) == {*polymnist.VIEWS, "quadrant"}


def test_only_the_judge_sees_the_glyphs_of_its_split():
    for config in (run(), run(pairs="tuples")):
        for name in Run(config, None).order:
            assert {tree["split"] for tree in seen_by(config, name)} == {"judge" if "judge" in name else "train"}


def test_options_change_what_they_say():
    settings = run().stages["joint"]["all"].settings
    assert settings["environment_noise"] == ENVIRONMENT_NOISE["pairs"] > 0 and "own_share" not in settings
    assert "environment_noise" not in run(pairs="tuples").stages["joint"]["all"].settings
    other = run(own_share=0.5, environment_noise=0.0).stages["joint"]["all"].settings
    assert other["own_share"] == 0.5 and "environment_noise" not in other
    assert run(length=0.5).stages["codec"]["views"].steps == run().stages["codec"]["views"].steps / 2
    assert (
        run(side=64).model.modalities["view_2"].size == run(side=64).sources["pools"]["parts"]["view_1+digit"]["side"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "triples"}, "option pairs: expected one of 'tuples', 'pairs', got 'triples'"),
        ({"side": 40}, "option side: expected a multiple of 16 of at least 32, got 40"),
        ({"length": 0.0}, "option length: expected a positive number, got 0"),
    ],
)
def test_what_cannot_be_is_one_line(options, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        run(**options)


def test_every_stage_of_the_config_has_an_objective():
    from codi_jax.train.program import objective_of
    from configs.polymnist import get_config

    for argument in ("tiny", "pairs=tuples,tiny"):
        read = open_run(get_config(argument), None)
        for name in (name for name in read.order if read.stage(name).trains):
            trained = {rule.split("/")[0] for rule in read.stage(name).trainable}
            assert trained <= set(objective_of(read, name).components), name


@pytest.mark.slow
def test_the_tiny_recipe_trains_generates_and_is_measured(tmp_path, capsys):
    """Some minutes, nearly all of them compilation."""
    from benchmarks import polymnist as command
    from codi_jax import cli

    workdir = tmp_path / "tiny"
    assert not cli.main(["train", "--config=polymnist:tiny", f"--workdir={workdir}", "--quiet"])
    command.main([f"--workdir={workdir}", "--n=8"])
    assert "all five" in capsys.readouterr().out and (workdir / "polymnist_test.json").exists()
