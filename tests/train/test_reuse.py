from itertools import combinations

import pytest

from codi_jax.checkpoint import load_params
from codi_jax.config import ConfigError
from codi_jax.digit_world.benchmark.trained import is_paired, trained_together
from codi_jax.presets.digit_world import MODALITIES
from codi_jax.train.encoded import load
from codi_jax.train.recipe import load_run, open_run
from codi_jax.train.reuse import definition, reuse
from configs import digit_world
from tests import toy

LAST = {"environment.text", "environment.image", "joint.text+image"}


def changed(tmp_path, change):
    config = toy.config()
    change(config)
    return open_run(config, tmp_path / "run")


def test_a_run_that_differs_in_its_last_stage_reuses_all_others(tmp_path):
    finished = load_run(toy.trained())
    run = changed(tmp_path, lambda c: c.stages["joint"]["text+image"]["settings"].update(align_weight=0.5))
    copied = reuse(run, finished.workdir)
    assert set(copied) == set(run.order) - {"joint.text+image"}
    for name in copied:
        assert run.finished(name)
        if run.stage(name).objective == "encode":
            assert toy.same(load(run, name), load(finished, name))  # loading fails if the weights differ
        else:
            a, b = (load_params(str(r.directory(name) / "params")) for r in (run, finished))
            assert toy.same(a, b)
    assert not run.finished("joint.text+image")
    assert reuse(run, finished.workdir) == ()  # again: nothing is left to copy


def test_fields_without_effect_on_the_result_do_not_count(tmp_path):
    run = changed(tmp_path, lambda c: c.stages["joint"]["text+image"].update(log_every=3, checkpoint_every=1))
    assert set(reuse(run, toy.trained())) == set(run.order)


def test_environment_settings_affect_the_last_stages_only(tmp_path):
    run = changed(tmp_path, lambda c: c.model.update(environment_tokens="map"))
    assert set(reuse(run, toy.trained())) == set(run.order) - LAST


def test_a_stage_does_not_depend_on_what_it_does_not_read_of_the_model():
    """With another tower and codec of images, what reads text alone is the same; a shared network counts."""

    def run_of(change):
        tree = digit_world.get_config("tiny").to_dict()
        change(tree["model"]["modalities"])
        return open_run(tree, None)

    def wider(modalities):
        modalities["image"]["prompt"]["feed_forward"] += 8
        for name in ("image", "video"):
            modalities[name]["codec"]["channels"] += 8

    a, b = run_of(lambda modalities: None), run_of(wider)
    same = {name for name in a.order if definition(a, name) == definition(b, name)}
    assert same == {"codec.text", "codec.audio"}
    frames = run_of(lambda modalities: modalities["video"]["prompt"].update(feed_forward=136))
    changed = {name for name in a.order if definition(a, name) != definition(frames, name)}
    after = {name for name in a.order for need in a.ancestors(name) if need in changed}
    assert {"bridging.text+video", "encode.text+video", "encode.audio+video"} <= changed
    assert changed - after == {"bridging.text+video"} and "joint.text+audio" in changed  # which reads ldm.text


def test_a_changed_stage_and_its_dependents_are_not_reused(tmp_path):
    run = changed(tmp_path, lambda c: c.stages["ldm"]["image"].update(batch_size=4))
    assert set(run.order) - set(reuse(run, toy.trained())) == {"ldm.image", "environment.image", "joint.text+image"}


def test_the_source_and_the_seed_are_part_of_the_definition(tmp_path):
    finished = load_run(toy.trained())
    other = changed(tmp_path, lambda c: c.sources["captions"].update(seed=77))
    differ = {name for name in finished.order if definition(finished, name) != definition(other, name)}
    assert "codec.text" in differ and "codec.image" not in differ and "encode.text+image" in differ
    other = changed(tmp_path, lambda c: c.update(seed=1))
    with pytest.raises(ConfigError, match="--reuse: no finished stage of"):
        reuse(other, finished.workdir)


def test_a_stage_that_was_started_here_is_not_overwritten(tmp_path):
    run = changed(tmp_path, lambda c: None)
    started = run.directory("codec.image")
    started.mkdir(parents=True)
    copied = reuse(run, toy.trained())
    assert "codec.text" in copied and "codec.image" not in copied and not list(started.iterdir())
    assert "encode.text+image" not in copied  # it depends on a stage that is not finished


def test_a_missing_workdir_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a workdir"):
        reuse(changed(tmp_path, lambda c: None), tmp_path / "nowhere")


@pytest.mark.parametrize("argument", ["loss=paper", "tokens=map"])
def test_variants_differ_only_after_the_denoisers(tmp_path, argument):
    ours = open_run(digit_world.get_config(), tmp_path / "a")
    theirs = open_run(digit_world.get_config(argument), tmp_path / "b")
    same = {n for n in theirs.order if n in ours.stages and definition(ours, n) == definition(theirs, n)}
    assert {n.split(".")[0] for n in theirs.order if n not in same} <= {"environment", "joint"}
    assert {n.split(".")[0] for n in same} == {"codec", "bridging", "encode", "ldm", "parts"}
    if argument == "loss=paper":
        joint = [s for n, s in theirs.stages.items() if n.startswith("joint")]
        assert {(s.settings["align"], s.settings["timesteps"]) for s in joint} == {("contrastive", "shared")}
    else:
        assert theirs.codi.config.environment_tokens == "map"
        assert {m.config.environment.tokens for m in theirs.codi.modalities.values()} == {"map"}


def test_merged_pools_train_every_pair(tmp_path):
    ours = open_run(digit_world.get_config(), tmp_path / "a")
    merged = open_run(digit_world.get_config("pools=merged"), tmp_path / "b")
    same = {n for n in merged.order if n in ours.stages and definition(ours, n) == definition(merged, n)}
    assert {n.split(".")[0] for n in same} == {"codec", "bridging", "parts"}
    stages = merged.stages.values()
    assert all(is_paired(stages, a, b) for a in MODALITIES for b in MODALITIES)
    assert all(trained_together(stages, pair) for pair in combinations(MODALITIES, 2))
    with pytest.raises(ConfigError, match="needs all modalities"):
        digit_world.get_config("pools=merged,modalities=text+image")


def test_unknown_variants_are_refused():
    with pytest.raises(ConfigError, match=r"^option loss: expected one of 'ours', 'paper', got 'theirs'$"):
        digit_world.get_config("loss=theirs")
