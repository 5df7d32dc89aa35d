"""A finished run trains longer: stages go on from their last step, and what depends on them is named."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from codi_jax import cli
from codi_jax.checkpoint import Checkpointer, save_params
from codi_jax.config import ConfigError
from codi_jax.train import config_changes, continued, trainer
from codi_jax.train.recipe import load_run, open_run, save_config
from codi_jax.train.trainer import train
from tests import toy
from tests.train import finished
from tests.train.finished import cut_short, load_stage, scalars

STAGE = "codec.text"  # which needs no other; a checkpoint after every second step


def scheduled(workdir, steps, schedule="constant"):
    """The toy recipe with other steps and another schedule of STAGE."""
    run = open_run(toy.config(), workdir)
    optimizer = dataclasses.replace(run.stage(STAGE).optimizer, schedule=schedule)
    return toy.with_stage(run, STAGE, steps=steps, optimizer=optimizer)


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    """STAGE with seven steps from its beginning, at a constant rate."""
    whole = scheduled(tmp_path_factory.mktemp("at_once"), 7)
    train(whole, (STAGE,), quiet=True)
    return whole


@pytest.mark.parametrize("steps", [3, 4])
def test_a_stage_that_goes_on_is_bit_identical_to_one_of_all_steps(tmp_path, at_once, capsys, steps):
    """Wherever it had ended: at a checkpoint, which is made after every second step, and after it."""
    run = scheduled(tmp_path, 7)
    train(scheduled(tmp_path, steps), (STAGE,), quiet=True)
    with Checkpointer(str(run.directory(STAGE) / "checkpoints")) as checkpoints:
        assert checkpoints.latest() == steps
    before = load_stage(run, STAGE)
    capsys.readouterr()
    train(scheduled(tmp_path, 7), (STAGE,), quiet=True)
    assert capsys.readouterr().out.splitlines()[0] == f"{STAGE}  goes on from step {steps} to 7"
    assert toy.same(load_stage(run, STAGE), load_stage(at_once, STAGE)) and not toy.same(load_stage(run, STAGE), before)
    assert run.finished_meta(STAGE)["steps"] == 7
    assert scalars(run, STAGE) == list(range(7))
    assert scalars(run, STAGE, metric="loss") == scalars(at_once, STAGE, metric="loss")
    train(scheduled(tmp_path, 7), (STAGE,), quiet=True)
    assert capsys.readouterr().out.splitlines()[-1] == f"{STAGE}  finished"


def test_a_stage_without_a_checkpoint_is_trained_from_its_beginning(tmp_path, at_once, capsys):
    train(scheduled(tmp_path, 4), (STAGE,), quiet=True)
    run = scheduled(tmp_path, 7)
    shutil.rmtree(run.directory(STAGE) / "checkpoints")
    capsys.readouterr()
    train(scheduled(tmp_path, 7), (STAGE,), quiet=True)
    said = capsys.readouterr().out.splitlines()[0]
    assert said == f"{STAGE}  has no checkpoint to go on from; all of its 7 steps are trained"
    assert toy.same(load_stage(run, STAGE), load_stage(at_once, STAGE))


def test_a_schedule_of_all_steps_is_said(tmp_path, capsys):
    train(scheduled(tmp_path, 4, "cosine"), (STAGE,), quiet=True)
    capsys.readouterr()
    train(scheduled(tmp_path, 6, "cosine"), (STAGE,), quiet=True)
    assert capsys.readouterr().out.splitlines()[0] == (
        f"{STAGE}  goes on from step 4 to 6; its learning rate, a cosine to the last step, begins again at the place "
        "of 4 in 6, so the result differs from that of 6 steps at once"
    )


def test_an_interrupted_stage_may_be_given_more_steps_too(tmp_path, at_once, monkeypatch, capsys):
    run = scheduled(tmp_path, 7)
    monkeypatch.setattr(finished, "STAGE", STAGE)
    cut_short(scheduled(tmp_path, 4), monkeypatch, 3)
    train(scheduled(tmp_path, 7), (STAGE,), quiet=True)
    assert "goes on" not in capsys.readouterr().out  # it had not finished
    assert toy.same(load_stage(run, STAGE), load_stage(at_once, STAGE))


def test_stages_that_depend_on_it_are_named(tmp_path, monkeypatch, capsys):
    """The metadata of finished stages says with how many steps those before them had finished."""
    run = scheduled(tmp_path, 6)
    needs = [name for name in run.ancestors("joint.text+image") if run.stage(name).trains]
    for name in [*needs, "joint.text+image"]:
        meta = {"components": [], "steps": 4, "after": continued.steps_before(run, name)}
        save_params(str(run.directory(name) / "params"), {"params": {"x": np.zeros(1)}}, meta)
    assert run.finished_meta("joint.text+image")["after"] == dict.fromkeys(needs, 4)
    assert not run.complete(STAGE) and run.complete("ldm.image") and not continued.outdated(run, STAGE)
    monkeypatch.setattr(trainer, "train_stage", lambda *_: None)
    train(run, ("joint.text+image",), quiet=True)
    folder = run.directory("joint.text+image")
    said = f"joint.text+image  finished, with {STAGE} of 4 steps; delete {folder} to train it again"
    assert capsys.readouterr().out.splitlines() == [said]
    save_params(str(run.directory(STAGE) / "params"), {"params": {"x": np.zeros(1)}}, {"components": [], "steps": 6})
    now = continued.steps_before(run, "joint.text+image")
    assert now == dict.fromkeys(needs, 4) | {STAGE: 6} and continued.earliest(now, {STAGE: 4, "gone": 3})[STAGE] == 4


def test_a_stage_that_was_begun_with_former_weights_is_named(tmp_path):
    run = scheduled(tmp_path, 6)
    said = f"ldm.text  goes on, begun with {STAGE} of 4 steps; delete {run.directory('ldm.text')} to begin it again"
    assert continued.begun_line(run, "ldm.text", 2, {STAGE: 4}) == said
    assert not continued.begun_line(run, "ldm.text", 0, {STAGE: 4})
    assert not continued.begun_line(run, "ldm.text", 2, {STAGE: 6})


# Configs


def config(**steps):
    made = toy.config()
    for leaf, number in steps.items():
        made.stages.ldm[leaf].steps = number
    return made


def test_more_steps_change_the_config_of_a_workdir_and_fewer_do_not(tmp_path):
    save_config(config(), tmp_path)
    save_config(config(text=9, image=5), tmp_path, write=False)
    assert load_run(tmp_path).stage("ldm.text").steps == 4
    save_config(config(text=9, image=5), tmp_path)
    assert [load_run(tmp_path).stage(f"ldm.{name}").steps for name in toy.PAIR] == [9, 5]
    with pytest.raises(ConfigError) as error:
        save_config(config(text=8, image=6), tmp_path)
    assert str(error.value) == (
        f"{tmp_path} holds a run of another config: stages.ldm.image.steps is 5 there and 6 here, "
        "stages.ldm.text.steps is 9 there and 8 here; choose another --workdir, or delete this one"
    )


def test_settings_of_generation_and_evaluation_may_change(tmp_path):
    save_config(config(), tmp_path)
    other = config()
    other.generate.steps += 1
    other.evaluate.n = 3
    save_config(other, tmp_path)
    found = load_run(tmp_path).config
    assert (found.generate.steps, found.evaluate["n"]) == (other.generate.steps, 3)
    other.seed = 1
    with pytest.raises(ConfigError, match="holds a run of another config: seed is 0 there"):
        save_config(other, tmp_path)


def test_a_refusal_names_the_fields_that_differ_shortly(tmp_path):
    save_config(toy.config(), tmp_path)
    other = toy.config()
    other.seed = 1
    with pytest.raises(ConfigError, match=r"another config: seed is 0 there and 1 here; choose another --workdir"):
        save_config(other, tmp_path)
    with other.unlocked():
        other.stages.ldm.text.optimizer.learning_rate = 0.5
        del other.stages.ldm.image
        other.data = {"note": "x" * 100}
    with pytest.raises(ConfigError) as error:
        save_config(other, tmp_path)
    assert len(str(error.value)) < 400 + len(str(tmp_path)) and "\n" not in str(error.value)
    found = config_changes.changes({"a": {"b": 1}, "c": (1,)}, {"a": {"b": 2, "x.y": {}}, "c": (1,)})
    assert config_changes.shown(found) == "a.b is 1 there and 2 here, a.x.y is not set there and {} here"
    many = config_changes.changes({"x": 0}, {"x": 0} | {str(i): "v" * 90 for i in range(5)})
    assert config_changes.shown(many).endswith(f"2 is not set there and '{'v' * 38}… here, 2 more")


def called(monkeypatch):
    """The runs that `codi-jax train` trains."""
    runs = []
    monkeypatch.setattr(trainer, "train", lambda run, *_: runs.append(run))
    return runs


def test_the_command_needs_only_the_workdir_and_the_steps(tmp_path, monkeypatch, capsys):
    save_config(toy.config(), tmp_path)
    runs = called(monkeypatch)
    cli.main(["train", f"--workdir={tmp_path}", "--config.stages.ldm.text.steps=9"])
    cli.main(["train", f"--workdir={tmp_path}"])
    cli.main(["train", f"--workdir={tmp_path}", "--config.stages.bridging.text+image.steps=5", "--config.seed=0"])
    assert [run.stage("ldm.text").steps for run in runs] == [9, 9, 9]
    assert runs[-1].stage("bridging.text+image").steps == 5
    assert not capsys.readouterr().err
    for override, says in (
        ("--config.seed=3", "seed is 0 there and 3 here"),
        ("--config.stages.ldm.text.steps=3", "stages.ldm.text.steps is 9 there and 3 here"),
        ("--config.stages.ldm.text.stepz=3", "unknown key (did you mean steps?)"),
    ):
        with pytest.raises(SystemExit):
            cli.main(["train", f"--workdir={tmp_path}", override])
        assert says in capsys.readouterr().err
    assert len(runs) == 3 and load_run(tmp_path).stage("ldm.text").steps == 9


def test_an_edited_config_is_noticed(tmp_path, monkeypatch, capsys):
    save_config(toy.config(), tmp_path)
    path = tmp_path / "config.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps(tree))  # the same, written in another way
    called(monkeypatch)
    cli.main(["train", f"--workdir={tmp_path}"])
    assert not capsys.readouterr().err
    tree["stages"]["ldm"]["text"]["ema"] = 0.5
    path.write_text(json.dumps(tree))
    cli.main(["train", f"--workdir={tmp_path}"])
    before = toy.config().stages.ldm.text.ema
    assert capsys.readouterr().err == f"codi-jax: {path} has been edited: stages.ldm.text.ema from {before} to 0.5\n"
    (tmp_path / "config.begun.json").unlink()  # as in a workdir of an earlier version
    cli.main(["train", f"--workdir={tmp_path}"])
    assert not capsys.readouterr().err
