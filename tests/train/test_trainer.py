"""A recipe of eight stages on eight virtual devices, and its stages again with interruptions of every kind."""

import dataclasses
import json
import os
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax import cli
from codi_jax.checkpoint import Checkpointer, load_params, save_params
from codi_jax.config import ConfigError
from codi_jax.data.arrays import Arrays
from codi_jax.parallel import MeshConfig, ShardingConfig, paths
from codi_jax.train import latents, trainer
from codi_jax.train.ledger import COUNTS, goodput
from codi_jax.train.metrics import Clock
from codi_jax.train.recipe import Run, ValidationConfig, load_run
from codi_jax.train.stage import Stage, source_of
from codi_jax.train.stop import Preempted
from codi_jax.train.trainer import train
from codi_jax.train.validation import Validation
from codi_jax.train.variables import assemble, check, variables_of
from tests import toy

PAIR = toy.PAIR
ENCODE = "encode.text+image"
STAGE = "ldm.text"  # interrupted by the tests: four steps, a checkpoint after the second


@pytest.fixture
def run(tmp_path):
    """A copy of the finished run in which STAGE has not been run yet."""
    shutil.copytree(toy.trained(), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "stages" / STAGE)
    return load_run(tmp_path / "run")


def load_stage(run, name=STAGE):
    return load_params(str(run.directory(name) / "params"))


def scalars(run, name=STAGE, metric="step"):
    return [json.loads(line)[metric] for line in (run.directory(name) / "metrics.jsonl").read_text().splitlines()]


def reference():
    return load_run(toy.trained())


def interrupt(monkeypatch, when, act):
    """Calls `act` before the given step (counted from 0) of the next stage that trains."""
    place, count = trainer.place_batch, iter(range(1000))

    def counted(batch, mesh):
        if next(count) == when:
            act()
        return place(batch, mesh)

    monkeypatch.setattr(trainer, "place_batch", counted)


class Interrupted(Exception):
    pass


def cut_short(run, monkeypatch, step):
    """Trains STAGE and raises an exception before the given step (counted from 0)."""

    def cut():
        raise Interrupted

    with monkeypatch.context() as patch:
        interrupt(patch, step, cut)
        with pytest.raises(Interrupted):
            train(run, (STAGE,), quiet=True)


def record_stages(monkeypatch):
    """A list that collects every Stage that is prepared from now on."""
    stages, prepare = [], Stage.prepare
    monkeypatch.setattr(Stage, "prepare", lambda self: (stages.append(self), prepare(self))[1])
    return stages


# What a run writes


def test_keep_last_and_keep_every_select_the_checkpoints(run):
    run.stages[STAGE] = dataclasses.replace(run.stage(STAGE), checkpoint_every=1, keep_last=1, keep_every=2)
    train(run, (STAGE,), quiet=True)
    with Checkpointer(str(run.directory(STAGE) / "checkpoints")) as checkpoints:
        assert checkpoints.steps() == [2, 3]
    assert toy.same(load_stage(run), load_stage(reference()))


def test_exit_codes_of_a_run_and_of_a_single_stage(run, monkeypatch):
    command = ["train", f"--workdir={run.workdir}", "--quiet"]
    interrupt(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as exit:
        cli.main(command)
    assert exit.value.code == 75 and not run.finished(STAGE)
    cli.main([*command, "--stage=ldm.image"])  # returns, which is exit code 0: the stage is finished, the recipe is not
    cli.main([*command, f"--stage={STAGE}"])
    assert run.finished(STAGE)
    cli.main(command)


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


def test_encoded_samples_match_the_source_one_to_one():
    run = reference()
    source = source_of(run, run.stage("ldm.image").source, "ldm.image")
    assert len(source) == run.config.sources["text+image"]["size"]
    for name, modality in run.codi.modalities.items():
        sample = source[3][name]
        assert sorted(sample) == ["full", "mean", "prompt", "std"]
        assert sample["mean"].shape == sample["std"].shape == modality.latent_shape
        assert sample["prompt"].shape == sample["full"].shape == (toy.D,)


def test_several_encode_stages_are_one_source(run):
    one, encode = source_of(run, run.stage("ldm.image").source, "ldm.image"), "encode.text+image"
    both = source_of(run, (encode, encode), "ldm.image")
    assert len(both) == 2 * len(one)
    for i in (0, 3, len(one) - 1):
        for sample in (both[i], both[i + len(one)]):
            for name in PAIR:
                assert sample[name].pop("present") == 1
            assert toy.same(sample, {name: one[i][name] for name in PAIR})


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


# Interruptions


def test_training_again_is_bit_identical_and_compiles_one_step(run, monkeypatch):
    stages = record_stages(monkeypatch)
    train(run, (STAGE,), quiet=True)
    assert toy.same(load_stage(run), load_stage(reference()))
    assert [stage.step._cache_size() for stage in stages] == [1]


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_an_interrupted_stage_ends_bit_identical(run, monkeypatch, step):
    cut_short(run, monkeypatch, step)
    assert not run.finished(STAGE)
    with Checkpointer(str(run.directory(STAGE) / "checkpoints")) as checkpoints:
        assert checkpoints.latest() == (2 if step == 3 else None)
    train(run, (STAGE,), quiet=True)
    assert toy.same(load_stage(run), load_stage(reference()))
    assert scalars(run) == [0, 1, 2, 3]
    assert scalars(run, metric="loss") == scalars(reference(), metric="loss")


@pytest.mark.parametrize("step", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_sigterm_saves_a_checkpoint_and_the_next_run_resumes(run, monkeypatch, step):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        interrupt(patch, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Preempted, match=rf"^stopped in ldm\.text at step {step + 1} of 4; run it again$"):
            train(run, (STAGE,), quiet=True)
    assert signal.getsignal(signal.SIGTERM) is before
    assert scalars(run)[-1] == step
    train(run, (STAGE,), quiet=True)
    assert toy.same(load_stage(run), load_stage(reference()))


def test_sigterm_in_the_last_step_finishes_the_stage_and_stops_before_the_next(run, monkeypatch):
    joint = "joint.text+image"
    shutil.rmtree(run.directory(joint))
    interrupt(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Preempted, match=r"^stopped after ldm\.text"):
        train(run, (STAGE, joint), quiet=True)
    assert run.finished(STAGE) and not run.directory(joint).exists()
    assert toy.same(load_stage(run), load_stage(reference()))


def test_sigterm_while_encoding_writes_no_arrays(run, monkeypatch):
    in_order = latents.in_order

    def interrupted(*arguments):
        for batch in in_order(*arguments):
            os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    shutil.rmtree(run.directory(ENCODE))
    with monkeypatch.context() as patch:
        patch.setattr(latents, "in_order", interrupted)
        with pytest.raises(Preempted, match=r"^stopped in encode\.text\+image, which starts again"):
            train(run, (ENCODE,), quiet=True)
    assert not run.finished(ENCODE)
    train(run, (ENCODE,), quiet=True)
    assert toy.same(latents.load(run, ENCODE), latents.load(reference(), ENCODE))


def with_records(run, size):
    """The run with ENCODE writing record files of `size` batches of four samples, and its arrays as an .npz."""
    shutil.rmtree(run.directory(ENCODE))
    run = toy.with_stage(run, ENCODE, batch_size=4)
    train(run, (ENCODE,), quiet=True)
    arrays = latents.load(run, ENCODE)
    shutil.rmtree(run.directory(ENCODE))
    return toy.with_stage(run, ENCODE, settings={"records": size}), arrays


def test_records_hold_the_same_samples_and_batches_as_the_npz(run):
    run, arrays = with_records(run, 3)
    train(run, (ENCODE,), quiet=True)
    files = sorted(path.name for path in (run.directory(ENCODE) / "records").iterdir())
    assert files == ["00000.arrayrecord", "00001.arrayrecord", "00002.arrayrecord", "origin.json"]
    assert toy.same(latents.load(run, ENCODE), arrays)
    source, stage = latents.source(run, ENCODE), Stage(run, "ldm.image")  # of one source
    assert not isinstance(source, Arrays) and toy.same(source[30], Arrays(arrays)[30])
    batch = next(stage.batches(2))
    stage.source = Arrays(arrays)
    assert jax.tree.all(jax.tree.map(np.array_equal, batch, next(stage.batches(2))))


def test_sigterm_while_encoding_records_keeps_complete_files(run, monkeypatch):
    (run, arrays), in_order = with_records(run, 2), latents.in_order

    def interrupted(*arguments):
        for number, batch in enumerate(in_order(*arguments)):
            if number == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(latents, "in_order", interrupted)
        with pytest.raises(Preempted, match=r"^stopped in encode\.text\+image, which resumes when"):
            train(run, (ENCODE,), quiet=True)
    folder = run.directory(ENCODE) / "records"
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.arrayrecord")}
    assert sorted(kept) == ["00000.arrayrecord", "00001.arrayrecord", "00002.arrayrecord"]
    assert not run.finished(ENCODE)
    (folder / "00003.new.arrayrecord").write_bytes(b"torn")  # as a killed process leaves it
    train(run, (ENCODE,), quiet=True)
    assert toy.same(latents.load(run, ENCODE), arrays)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept


def test_records_of_other_weights_are_refused(run):
    run, _ = with_records(run, 8)
    train(run, (ENCODE,), quiet=True)
    directory = run.directory(ENCODE)
    other = (directory / "arrays.json").read_text().replace('"fingerprint": "', '"fingerprint": "0')
    (directory / "arrays.json").write_text(other)
    with pytest.raises(ConfigError, match="was computed from other weights or data; delete it"):
        latents.source(run, ENCODE)
    (directory / "arrays.json").unlink()
    (directory / "records" / "origin.json").write_text(other)
    with pytest.raises(ConfigError, match="records was started with other weights or data; delete it"):
        train(run, (ENCODE,), quiet=True)


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


@pytest.mark.slow
def test_an_offloaded_state_is_trained_saved_and_restored_alike(run, monkeypatch):
    run, stages = toy.with_stage(run, STAGE, offload=("ema", "opt_state")), record_stages(monkeypatch)
    cut_short(run, monkeypatch, 3)
    train(run, (STAGE,), quiet=True)
    assert toy.same(load_stage(run), load_stage(reference()))
    for stage in stages:
        assert stage.step._cache_size() == 1
        memory = {
            name: {leaf.sharding.memory_kind for leaf in jax.tree.leaves(getattr(stage.state, name))}
            for name in ("params", "ema", "opt_state")
        }
        assert memory == {"params": {"device"}, "ema": {"pinned_host"}, "opt_state": {"pinned_host"}}


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


def test_the_ledger_records_every_second_and_lost_steps(run, monkeypatch, capsys):
    run = toy.with_stage(run, STAGE, log_every=1)
    cut_short(run, monkeypatch, 3)
    path = run.directory(STAGE) / "cost.json"
    before = json.loads(path.read_text())
    train(run, (STAGE,), quiet=True)
    cost = json.loads(path.read_text())
    assert cost["lost_steps"] == 1  # the third; the checkpoint is of two
    assert all(cost[activity] >= before[activity] > 0 for activity in ("start", "compile", "step", "total"))
    spent = sum(seconds for activity, seconds in cost.items() if activity not in COUNTS)
    assert spent == pytest.approx(cost["total"], abs=0.02)
    assert goodput(cost, 4) == pytest.approx(4 / 5 * cost["step"] / cost["total"])
    assert re.search(rf"^{STAGE}  goodput \d+% of \S+: .*compile.*1 steps lost$", capsys.readouterr().out, re.M)


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


# Invalid configs


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


def test_latents_of_other_weights_are_refused(run):
    saved, meta = load_stage(run, "codec.text"), run.finished_meta("codec.text")
    directory = run.directory("codec.text") / "params"
    shutil.rmtree(directory)
    changed = jax.tree.map(np.asarray, saved)
    leaf = next(iter(paths.flatten(changed["params"])))
    flat = paths.flatten(changed)
    flat[f"params/{leaf}"] = flat[f"params/{leaf}"] + 1
    save_params(str(directory), paths.replace(changed, flat), {k: meta[k] for k in ("stage", "components")})
    with pytest.raises(ConfigError, match="was computed from other weights or data; delete it and run the stage again"):
        Stage(run, STAGE)
    shutil.rmtree(run.directory("encode.text+image"))
    with pytest.raises(ConfigError, match="no readable arrays"):
        Stage(run, STAGE)


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


def test_seconds_are_recorded_even_if_the_stage_fails(run, monkeypatch):
    def fails(self, ledger, *_):
        with ledger.clock.measure("step"):
            raise RuntimeError("no")

    monkeypatch.setattr(trainer, "train_stage", fails)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            train(run, (STAGE,), quiet=True)
    assert set(json.loads((run.directory(STAGE) / "cost.json").read_text())) == {
        "start",
        "step",
        "other",
        "total",
        "lost_steps",
        "core_seconds",
        "sessions",
    }
    assert Clock().share("start") == 0
