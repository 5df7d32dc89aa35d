"""Encode stages: their samples, their record files, interruptions, and other weights."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from codi_jax import storage
from codi_jax.checkpoint import save_params
from codi_jax.config import ConfigError
from codi_jax.data.arrays import Arrays
from codi_jax.data.source import read_batch
from codi_jax.objectives import conditioning
from codi_jax.objectives.batches import MediaBatches
from codi_jax.objectives.conditioning import PromptConfig
from codi_jax.parallel import paths
from codi_jax.train import encoded, latents
from codi_jax.train.recipe import Run
from codi_jax.train.stage import Stage, source_of
from codi_jax.train.stop import Preempted
from codi_jax.train.trainer import train
from codi_jax.train.variables import assemble
from tests import s3, toy
from tests.train.finished import ENCODE, PAIR, STAGE, load_stage, reference


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
    assert toy.same(encoded.load(run, ENCODE), encoded.load(reference(), ENCODE))


def with_records(run, size):
    """The run with ENCODE writing record files of `size` batches of four samples, and its arrays as an .npz."""
    shutil.rmtree(run.directory(ENCODE))
    run = toy.with_stage(run, ENCODE, batch_size=4)
    train(run, (ENCODE,), quiet=True)
    arrays = encoded.load(run, ENCODE)
    shutil.rmtree(run.directory(ENCODE))
    return toy.with_stage(run, ENCODE, settings={"records": size}), arrays


def test_records_hold_the_same_samples_and_batches_as_the_npz(run):
    run, arrays = with_records(run, 3)
    train(run, (ENCODE,), quiet=True)
    files = sorted(path.name for path in (run.directory(ENCODE) / "records").iterdir())
    assert files == ["00000.npy", "00001.npy", "00002.npy", "origin.json"]
    assert toy.same(encoded.load(run, ENCODE), arrays)
    source, stage = encoded.source(run, ENCODE), Stage(run, "ldm.image")  # of one source
    assert not isinstance(source, Arrays) and toy.same(source[30], Arrays(arrays)[30])
    batch = next(stage.batches(2))
    stage.source = Arrays(arrays)
    assert jax.tree.all(jax.tree.map(np.array_equal, batch, next(stage.batches(2))))


def test_records_in_a_bucket_are_those_on_a_disk(run, monkeypatch):
    """Two stages, one local and one remote, are read as one source, and as a mixture."""
    run, arrays = with_records(run, 3)
    train(run, (ENCODE,), quiet=True)
    group, leaf = ENCODE.split(".")
    stages = {**run.config.stages, group: {leaf: run.stage(ENCODE), "remote": run.stage(ENCODE)}}
    parts = {"a": {"stage": ENCODE, "weight": 3.0}, "b": {"stage": "encode.remote"}}
    sources = {**run.config.sources, "both": {"name": "mixture", "parts": parts}}
    run = Run(dataclasses.replace(run.config, stages=stages, sources=sources), run.workdir)
    address, directory = storage.as_path(s3.bucket(monkeypatch, "encoded")), Run.directory
    monkeypatch.setattr(
        Run, "directory", lambda self, name: address / name if name == "encode.remote" else directory(self, name)
    )
    train(run, ("encode.remote",), quiet=True)
    assert toy.same(encoded.load(run, "encode.remote"), arrays)
    both = source_of(run, (ENCODE, "encode.remote"), "ldm.image")
    size = len(both) // 2
    batch = read_batch(both, [2, size + 2])
    assert all((x[0] == x[1]).all() for x in jax.tree.leaves(batch))
    assert toy.same(batch["text"]["mean"][0], arrays["text"]["mean"][2])
    mixed = Stage(toy.with_stage(run, "ldm.image", source="both"), "ldm.image")
    assert mixed.source.epochs(4) == {"epoch/a": 3 / size, "epoch/b": 1 / size}
    assert next(mixed.batches(0))["image"].present.tolist() == [1] * 8


def test_samples_are_what_the_training_step_computes_null_prompts_included(run):
    run = Run(dataclasses.replace(run.config, model=dataclasses.replace(run.codi.config, null="empty")), run.workdir)
    size = run.stage(ENCODE).batch_size
    with pytest.raises(ConfigError, match=r"delete it and run the stage again \(model/null: zero, now empty\)"):
        source_of(run, ENCODE, "ldm.text")
    shutil.rmtree(run.directory(ENCODE))
    train(run, (ENCODE,), quiet=True)
    online, stage = MediaBatches(run.codi, PAIR), Stage(toy.with_stage(run, "ldm.text", source=ENCODE), "ldm.text")
    assert not set(online.components) & set(stage.objective.components)  # no prompt encoder is loaded
    variables = assemble(run, run.ancestors(ENCODE), online.components)
    rows = range(min(size, len(stage.source)))
    batch = online.batch(read_batch(source_of(run, run.stage(ENCODE).source, ENCODE), rows))
    batch = jax.tree.map(lambda x: np.pad(x, [(0, size - len(x))] + [(0, 0)] * (x.ndim - 1)), batch)
    media = jax.tree.map(lambda x: x[: len(rows)], jax.jit(online.encode)(variables, batch))
    saved = stage.objective.batch(read_batch(stage.source, rows))
    for name in PAIR:
        for field in ("mean", "std", "prompt", "full"):
            np.testing.assert_array_equal(getattr(saved[name], field), getattr(media[name], field))
    config, key = PromptConfig(PAIR, drop=0.5), jax.random.key(0)
    contexts = [conditioning.context(run.codi, config, variables, b, key, "text").values for b in (media, saved)]
    np.testing.assert_allclose(*contexts, rtol=1e-5, atol=1e-5)
    assert np.unique(np.asarray(contexts[1])[:, 0], axis=0).shape[0] < len(rows)  # some are null prompts


def test_records_of_another_number_of_batches_are_not_mixed(run):
    run, _ = with_records(run, 8)
    train(run, (ENCODE,), quiet=True)
    (run.directory(ENCODE) / "arrays.json").unlink()
    with pytest.raises(ConfigError, match=r"delete it and run the stage again \(records: 8, now 2\)"):
        train(toy.with_stage(run, ENCODE, settings={"records": 2}), (ENCODE,), quiet=True)


def test_records_that_lack_a_file_are_refused(run):
    run, _ = with_records(run, 3)
    train(run, (ENCODE,), quiet=True)
    (run.directory(ENCODE) / "records" / "00001.npy").unlink()
    with pytest.raises(ConfigError, match="holds 20 of 32 samples; run the stage again"):
        encoded.source(run, ENCODE)


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
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    assert sorted(kept) == ["00000.npy", "00001.npy", "00002.npy"]
    assert not run.finished(ENCODE)
    (folder / "00003.new.npy").write_bytes(b"torn")  # as a killed process leaves it
    train(run, (ENCODE,), quiet=True)
    assert toy.same(encoded.load(run, ENCODE), arrays)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept


def test_records_of_other_weights_are_refused(run):
    run, _ = with_records(run, 8)
    train(run, (ENCODE,), quiet=True)
    directory = run.directory(ENCODE)
    marker = json.loads((directory / "arrays.json").read_text())
    of_other_weights = {**marker, "weights": {**marker["weights"], "clip_text": "0123"}}
    assert marker["weights"]["clip_text"] not in ("", "0123")
    other = json.dumps(of_other_weights)
    (directory / "arrays.json").write_text(other)
    with pytest.raises(ConfigError, match=r"was computed from other weights or data; delete it .*clip_text: 0123, now"):
        encoded.source(run, ENCODE)
    (directory / "arrays.json").unlink()
    (directory / "records" / "origin.json").write_text(other)
    with pytest.raises(ConfigError, match="records was started with other weights or data; delete it"):
        train(run, (ENCODE,), quiet=True)


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
