"""The recipe of polymnist: what its stages see, and that they train."""

import itertools

import pytest

from codi_jax import polymnist
from codi_jax.config import ConfigError
from codi_jax.presets.polymnist.recipe import ENVIRONMENT_NOISE, HUB, run
from codi_jax.train.program import objective_of
from codi_jax.train.recipe import Run, named_sources
from tests import registries

registries.forget_polymnist()


@pytest.fixture(scope="module", autouse=True)
def plugin():
    with registries.polymnist():
        yield


def seen_by(read, name):
    """The configs of the sources of polymnist that a stage of a run reads, directly or by encode stages."""
    for source in named_sources(read.stage(name).source):
        if source in read.stages:
            yield from seen_by(read, source)
        else:
            tree = read.config.sources[source]
            yield from tree.get("parts", {"": tree}).values()


@pytest.fixture(scope="module")
def runs(plugin):
    return {pairs: Run(run(pairs=pairs), None) for pairs in ("pairs", "tuples")}


def test_pairs_are_those_with_view_1_alone(runs):
    """A source of both labels is read by their codecs, each of which sees one of them."""
    read = runs["pairs"]
    seen = set()
    for name in read.order:
        if name.startswith("codec."):
            assert len(read.stage(name).modalities) == 1
            continue
        for tree in seen_by(read, name):
            assert "view_1" in tree["modalities"] and tree.get("complete", 1.0) == 1
            seen.add(tree["modalities"])
    assert seen == {("view_1",), *(("view_1", other) for other in polymnist.MODALITIES[1:])}


def test_no_sample_is_in_two_pools_of_pairs():
    config = run()
    pools = {name: tree["seed"] for name, tree in config.sources.items() if name.startswith("view_1+")}
    assert len(set(pools.values())) == 4 and all(
        pools[name] == pools[f"{name} whole"] for name in pools if " " not in name
    )


def test_tuples_are_one_set_of_which_a_quarter_is_complete(runs):
    config = runs["tuples"].config
    trees = [tree for name, tree in config.sources.items() if "+" in name]
    assert {tree["modalities"] for tree in trees} == set(itertools.combinations(polymnist.MODALITIES, 2))
    assert {(tree["seed"], tree["complete"]) for tree in trees} == {(20, 0.25)}
    assert len(config.sources["pools"]["parts"]) == len(config.stages["encode"]) == 10
    assert set(config.stages["ldm"]["digit"].settings["prompts"]["sources"]) == {*polymnist.VIEWS, "quadrant"}


def test_only_the_judge_sees_the_glyphs_of_its_split(runs):
    for read in runs.values():
        for name in read.order:
            assert {tree.get("split", "train") for tree in seen_by(read, name)} == {
                "judge" if "judge" in name else "train"
            }


def test_options_change_what_they_say():
    settings = run().stages["joint"]["all"].settings
    assert settings["environment_noise"] == ENVIRONMENT_NOISE["pairs"] > 0 and settings["own_share"] == 0.75
    assert settings["target"] == HUB and "optional_target" not in settings
    tuples = run(pairs="tuples").stages["joint"]["all"].settings
    assert tuples["target"] == HUB and tuples["optional_target"] and "environment_noise" not in tuples
    other = run(own_share=0.0, environment_noise=0.5).stages["joint"]["all"].settings
    assert other["environment_noise"] == 0.5 and "own_share" not in other
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


def test_every_stage_reads_what_it_trains(runs):
    for read in runs.values():
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
