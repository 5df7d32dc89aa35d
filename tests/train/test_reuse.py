from itertools import combinations

import pytest

from codi_jax.checkpoint import load_params
from codi_jax.config import ConfigError
from codi_jax.evaluate.trained import paired, together
from codi_jax.train.latents import load
from codi_jax.train.recipe import load_run, open_run
from codi_jax.train.reuse import definition, reuse
from configs import four
from tests import toy

LAST = {"environment.text", "environment.image", "joint.text+image"}


def changed(tmp_path, change):
    config = toy.config()
    change(config)
    return open_run(config, tmp_path / "run")


def test_a_run_of_other_last_stages_takes_all_the_others(tmp_path):
    there = load_run(toy.trained())
    run = changed(tmp_path, lambda c: c.stages["joint"]["text+image"]["settings"].update(align_weight=0.5))
    taken = reuse(run, there.workdir)
    assert set(taken) == set(run.order) - {"joint.text+image"}
    for name in taken:
        assert run.finished(name)
        if run.stage(name).objective == "encode":
            assert toy.same(load(run, name), load(there, name))  # which is refused where the weights are others
        else:
            a, b = (load_params(str(r.directory(name) / "params")) for r in (run, there))
            assert toy.same(a, b)
    assert not run.finished("joint.text+image")
    assert reuse(run, there.workdir) == ()  # again: all is there


def test_what_changes_nothing_does_not_count(tmp_path):
    run = changed(tmp_path, lambda c: c.stages["joint"]["text+image"].update(log_every=3, checkpoint_every=1))
    assert set(reuse(run, toy.trained())) == set(run.order)


def test_environment_settings_concern_the_last_stages_alone(tmp_path):
    run = changed(tmp_path, lambda c: c.model.update(environment_tokens="map"))
    assert set(reuse(run, toy.trained())) == set(run.order) - LAST


def test_a_changed_stage_takes_all_that_follow_with_it(tmp_path):
    run = changed(tmp_path, lambda c: c.stages["ldm"]["image"].update(batch_size=4))
    assert set(run.order) - set(reuse(run, toy.trained())) == {"ldm.image", "environment.image", "joint.text+image"}


def test_a_source_and_the_seed_count(tmp_path):
    there = load_run(toy.trained())
    other = changed(tmp_path, lambda c: c.sources["captions"].update(seed=77))
    differ = {name for name in there.order if definition(there, name) != definition(other, name)}
    assert "codec.text" in differ and "codec.image" not in differ and "encode.text+image" in differ
    other = changed(tmp_path, lambda c: c.update(seed=1))
    with pytest.raises(ConfigError, match="--reuse: no finished stage of"):
        reuse(other, there.workdir)


def test_a_stage_that_was_begun_here_is_left_alone(tmp_path):
    run = changed(tmp_path, lambda c: None)
    begun = run.directory("codec.image")
    begun.mkdir(parents=True)
    taken = reuse(run, toy.trained())
    assert "codec.text" in taken and "codec.image" not in taken and not list(begun.iterdir())
    assert "encode.text+image" not in taken  # it builds on what is not there


def test_no_run_to_reuse(tmp_path):
    with pytest.raises(ConfigError, match="is not a workdir"):
        reuse(changed(tmp_path, lambda c: None), tmp_path / "nowhere")


@pytest.mark.parametrize("argument", ["loss=paper", "tokens=map"])
def test_the_variants_differ_after_the_denoisers_alone(tmp_path, argument):
    ours = open_run(four.get_config(), tmp_path / "a")
    theirs = open_run(four.get_config(argument), tmp_path / "b")
    same = {n for n in theirs.order if n in ours.stages and definition(ours, n) == definition(theirs, n)}
    assert {n.split(".")[0] for n in theirs.order if n not in same} <= {"environment", "joint"}
    assert {n.split(".")[0] for n in same} == {"codec", "bridging", "encode", "ldm"}
    if argument == "loss=paper":
        joint = [s for n, s in theirs.stages.items() if n.startswith("joint")]
        assert {(s.settings["align"], s.settings["timesteps"]) for s in joint} == {("contrastive", "shared")}
    else:
        assert theirs.codi.config.environment_tokens == "map"
        assert {m.config.environment.tokens for m in theirs.codi.modalities.values()} == {"map"}


def test_pairs_of_everything(tmp_path):
    ours = open_run(four.get_config(), tmp_path / "a")
    merged = open_run(four.get_config("pools=merged"), tmp_path / "b")
    same = {n for n in merged.order if n in ours.stages and definition(ours, n) == definition(merged, n)}
    assert {n.split(".")[0] for n in same} == {"codec", "bridging"}
    stages = merged.stages.values()
    assert all(paired(stages, a, b) for a in four.MODALITIES for b in four.MODALITIES)
    assert all(together(stages, pair) for pair in combinations(four.MODALITIES, 2))
    with pytest.raises(ConfigError, match="takes all modalities"):
        four.get_config("pools=merged,modalities=text+image")


def test_variants_that_do_not_exist():
    with pytest.raises(ConfigError, match="loss: ours or paper"):
        four.get_config("loss=theirs")
