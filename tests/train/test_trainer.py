"""Stages of a finished run, trained again: what they write, compile, skip and refuse."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.checkpoint import Checkpointer
from codi_jax.config import ConfigError
from codi_jax.parallel import MeshConfig, ShardingConfig
from codi_jax.train import trainer
from codi_jax.train.recipe import Run, ValidationConfig
from codi_jax.train.stage import Stage
from codi_jax.train.trainer import train
from codi_jax.train.validation import Validation
from codi_jax.train.variables import assemble, check, variables_of
from tests import toy
from tests.train.finished import STAGE, load_stage, record_stages, reference, scalars


def test_keep_last_and_keep_every_select_the_checkpoints(run):
    run.stages[STAGE] = dataclasses.replace(run.stage(STAGE), checkpoint_every=1, keep_last=1, keep_every=2)
    train(run, (STAGE,), quiet=True)
    with Checkpointer(str(run.directory(STAGE) / "checkpoints")) as checkpoints:
        assert checkpoints.steps() == [2, 4]
    assert toy.same(load_stage(run), load_stage(reference()))


def test_every_stage_saves_its_components_metrics_and_seconds():
    run = reference()
    components = {
        "codec.text": ["text_codec"],
        "codec.image": ["vision_codec"],
        "bridging.text+image": ["bridging", "clip_text", "clip_vision"],
        "ldm.text": ["text_unet"],
        "ldm.image": ["vision_unet"],
        "environment.image": ["image_environment"],
        "environment.text": ["text_environment"],
        "joint.text+image": ["image_cross", "image_environment", "text_cross", "text_environment"],
    }
    assert set(components) | {"encode.text+image"} == set(run.order)
    for name, names in components.items():
        assert run.finished(name)
        meta, tree = run.finished_meta(name), load_stage(run, name)
        assert (meta["components"], meta["steps"], meta["skipped"], meta["stage"]) == (names, 4, 0, name)
        assert sorted(tree["params"]) == names
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(tree))
        assert scalars(run, name) == [0, 1, 2, 3]
        assert any(path.name.startswith("events.out") for path in run.directory(name).iterdir())
        cost = json.loads((run.directory(name) / "cost.json").read_text())
        assert {"start", "compile", "step", "finish", "total"} <= set(cost)
    assert sorted(load_stage(run, "codec.image")["constants"]["vision_codec"]) == ["scale", "shift"]
    assert sorted(load_stage(run, "bridging.text+image")["constants"]["clip_text"]) == ["centre", "gain"]
    assert "constants" not in load_stage(run)


def test_variables_of_a_finished_run_are_a_complete_model():
    run = reference()
    variables = variables_of(run)
    assert set(variables["params"]) == set(run.codi.component_names())
    for stage, component in (("codec.image", "vision_codec"), ("bridging.text+image", "clip_text")):
        saved = load_stage(run, stage)
        assert toy.same(variables["params"][component], saved["params"][component])
        assert toy.same(variables["constants"][component], saved["constants"][component])
    with pytest.raises(ConfigError, match="no finished stage has trained 'text_unet'"):
        assemble(run, run.ancestors(STAGE), ("text_unet",))


def test_finished_stages_are_skipped(capsys, monkeypatch):
    def files():
        return {p: p.stat().st_mtime_ns for p in toy.trained().rglob("*") if p.is_file()}

    before = files()
    monkeypatch.setattr(trainer, "train_stage", lambda *_: pytest.fail("trained again"))
    train(reference())
    assert files() == before
    assert capsys.readouterr().out.splitlines() == [f"{name}  finished" for name in reference().order]


def test_a_step_that_is_not_finite_is_skipped_and_counted(run, monkeypatch):
    def poison(batch, mesh, place=trainer.place_batch, count=iter(range(1000))):  # noqa: B008
        if next(count) == 1:
            batch["text"] = dataclasses.replace(batch["text"], mean=np.full_like(batch["text"].mean, np.nan))
        return place(batch, mesh)

    monkeypatch.setattr(trainer, "place_batch", poison)
    train(run, (STAGE,), quiet=True)
    assert run.finished_meta(STAGE)["skipped"] == 1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(load_stage(run)["params"]))
    assert [loss is None for loss in scalars(run, metric="loss")] == [False, True, False, False]
    assert scalars(run, metric="skipped") == [0, 1, 1, 1]


def test_sharded_parameters_train_alike_and_compile_one_step(run, monkeypatch):
    stages, name = record_stages(monkeypatch), "bridging.text+image"
    shutil.rmtree(run.directory(name))
    split = {
        "mesh": MeshConfig(data=2, fsdp=4),
        "sharding": ShardingConfig(fsdp_min_bytes=256, min_sharded_fraction=0.8),
    }
    train(Run(dataclasses.replace(run.config, **split), run.workdir), (name,), quiet=True)
    (stage,) = stages
    assert stage.table.sharded_fraction > 0.8
    assert stage.step._cache_size() == 1
    for metric in ("loss", "grad_norm"):
        np.testing.assert_allclose(scalars(run, name, metric), scalars(reference(), name, metric), rtol=1e-4)


def test_validation_loss_is_reported_by_timestep_and_is_repeatable(run, monkeypatch):
    encoded = run.stage(STAGE).source
    run = toy.with_stage(run, STAGE, validation=ValidationConfig(encoded, every=2, batches=2))
    seen, validate = [], Validation.__call__
    monkeypatch.setattr(
        Validation, "__call__", lambda self, *state: seen.append((self, *state)) or validate(self, *state)
    )
    train(run, (STAGE,), quiet=True)
    assert toy.same(load_stage(run), load_stage(reference()))  # it does not change the random numbers of training
    lines = [json.loads(line) for line in (run.directory(STAGE) / "metrics.jsonl").read_text().splitlines()]
    held_out = [line for line in lines if "validation/loss" in line]
    assert [line["step"] for line in held_out] == [1, 3]
    levels = [value for name, value in held_out[0].items() if name.startswith("validation/loss/t")]
    assert len(levels) == 8 and np.mean(levels) == pytest.approx(held_out[0]["validation/loss"], rel=1e-5)
    (held_out_loss, *state), again = seen[-1], dict(held_out[-1])
    assert held_out_loss._losses._cache_size() == 1
    del again["step"]
    assert validate(held_out_loss, *state) == pytest.approx(again, rel=1e-6)


@pytest.mark.slow
def test_profile_writes_a_trace_of_some_steps(run):
    train(run, (STAGE,), quiet=True, profile=(1, 2))
    assert list((run.directory(STAGE) / "profile").rglob("*.xplane.pb"))


@pytest.mark.slow
def test_gradient_accumulation_with_frozen_denoisers_in_half_precision(run, monkeypatch):
    name, stages = "joint.text+image", record_stages(monkeypatch)
    shutil.rmtree(run.directory(name))
    shutil.copytree(reference().directory(STAGE), run.directory(STAGE))
    run = toy.with_stage(run, name, batch_size=16, accumulate=2, precision=(("(text|vision)_unet/.*", "bfloat16"),))
    train(run, (name,), quiet=True)
    (stage,) = stages
    assert {leaf.dtype.name for leaf in jax.tree.leaves(stage.frozen)} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(load_stage(run, name)["params"])} == {"float32"}
    assert stage.step._cache_size() == 1
    assert np.isfinite(scalars(run, name, "loss")).all()
    assert scalars(run, name, "loss") != scalars(reference(), name, "loss")


def test_microbatches_that_do_not_divide_the_batch_are_refused(run):
    rows = jax.device_count()
    with pytest.raises(
        ConfigError, match=rf"accumulate: batch_size {rows} is not divisible by 2 microbatches × {rows} devices"
    ):
        Stage(toy.with_stage(run, STAGE, batch_size=rows, accumulate=2), STAGE).prepare()
    with pytest.raises(ConfigError, match="accumulate: batch_size 16 is not divisible by 3"):
        toy.with_stage(run, STAGE, batch_size=16, accumulate=3)
    settings = {**run.stage("joint.text+image").settings, "align": "contrastive"}
    contrastive = toy.with_stage(run, "joint.text+image", settings=settings, accumulate=2)
    with pytest.raises(ConfigError, match="align: contrastive compares all samples of a batch"):
        Stage(contrastive, "joint.text+image")


def test_invalid_stages_are_refused(run):
    with pytest.raises(ConfigError, match="matches no parameter"):
        train(toy.with_stage(run, STAGE, trainable=("text_unet/.*", "vision_unett/.*")), (STAGE,), quiet=True)
    with pytest.raises(ConfigError, match="reads text_unet, which neither it nor a stage that it depends on trains"):
        train(toy.with_stage(run, STAGE, trainable=()), (STAGE,), quiet=True)
    with pytest.raises(ConfigError, match=r"stages\.\*\.settings\.prompt: unknown key"):
        train(toy.with_stage(run, STAGE, settings={"prompt": {}}), (STAGE,), quiet=True)
    with pytest.raises(ConfigError, match="cannot be split over 8 devices"):
        train(toy.with_stage(run, STAGE, batch_size=4), (STAGE,), quiet=True)
    with pytest.raises(ConfigError, match=r"^no stage 'ldm\.smell' in this recipe"):
        train(run, ("ldm.smell",), quiet=True)
    shutil.rmtree(run.directory("environment.text"))
    shutil.rmtree(run.directory("joint.text+image"))
    needed = r"^stage 'joint\.text\+image' depends on 'environment\.text', which is not finished"
    with pytest.raises(ConfigError, match=needed):
        train(run, ("joint.text+image",), quiet=True)


def test_weights_of_another_shape_are_named(run):
    variables = variables_of(reference())
    bias = variables["params"]["text_unet"]["head"]["layer"]["bias"]
    variables["params"]["text_unet"]["head"]["layer"]["bias"] = jnp.zeros((bias.shape[0] + 1,))
    with pytest.raises(ConfigError, match=r"component text_unet\['head'\]\['layer'\]\['bias'\]: the checkpoint has"):
        check(run, variables["params"])
