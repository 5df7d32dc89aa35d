"""A whole workdir in an object store: stages taken over, one interrupted and gone on with, the numbers of a local run.

Slow: hundreds of requests to a real S3 server.
"""

import json
import os
import shutil
import signal

import pytest

from codi_jax import cli, storage
from codi_jax.checkpoint import load_params
from codi_jax.train import loop
from codi_jax.train.recipe import load_run
from tests import s3, toy

STAGE = "ldm.text"


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as patch:
        yield s3.bucket(patch, "runs")


@pytest.mark.slow
def test_a_run_in_a_store_ends_in_the_bits_of_one_here(bucket, tmp_path, monkeypatch, capsys):
    here = load_run(toy.trained())
    (tmp_path / "part").mkdir()
    shutil.copy(here.workdir / "config.json", tmp_path / "part")
    for name in here.ancestors(STAGE):
        shutil.copytree(here.directory(name), tmp_path / "part" / "stages" / name)
    toy.save_config(toy.config(), f"{bucket}/run")

    original, count = loop.place_batch, iter(range(1000))

    def preempted(batch, mesh):
        if next(count) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(batch, mesh)

    monkeypatch.setattr(loop, "place_batch", preempted)
    train = ["train", f"--workdir={bucket}/run", "--quiet", f"--stage={STAGE}"]
    with pytest.raises(SystemExit) as exit:
        cli.main([*train, f"--reuse={tmp_path / 'part'}"])
    assert exit.value.code == cli.EXIT_PREEMPTED
    there = load_run(f"{bucket}/run")
    storage.write_text(there.directory(STAGE) / "params" / "manifest.ocdbt", "of a write that was cut short")
    cli.main(train)
    assert set(there.finished_stages()) == {*here.ancestors(STAGE), STAGE}
    a, b = (load_params(str(run.directory(STAGE) / "params")) for run in (here, there))
    assert toy.same(a, b)
    lines = (there.directory(STAGE) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(here.stage(STAGE).steps))
    assert json.loads((there.directory(STAGE) / "cost.json").read_text())["total"] > 0
