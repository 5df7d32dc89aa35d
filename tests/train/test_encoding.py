"""Encode stages: their samples, their record files, interruptions, and other weights."""

import os
import shutil
import signal

import jax
import numpy as np
import pytest

from codi_jax.checkpoint import save_params
from codi_jax.config import ConfigError
from codi_jax.data.arrays import Arrays
from codi_jax.parallel import paths
from codi_jax.train import latents
from codi_jax.train.stage import Stage, source_of
from codi_jax.train.stop import Preempted
from codi_jax.train.trainer import train
from tests import toy
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
