"""A workdir in an object store: stages reused, one interrupted and resumed, with the numbers of a local run.

Slow: hundreds of requests to a real S3 server.
"""

import json
import os
import shutil
import signal

import pytest

from codi_jax import cli, storage
from codi_jax.checkpoint import load_params
from codi_jax.exit_codes import EXIT_PREEMPTED
from codi_jax.train import trainer
from codi_jax.train.recipe import load_run
from tests import s3, toy

STAGE = "ldm.text"


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as patch:
        yield s3.bucket(patch, "runs")


@pytest.mark.slow
def test_a_run_in_an_object_store_is_bit_identical_to_a_local_one(bucket, tmp_path, monkeypatch, capsys):
    local = load_run(toy.trained())
    (tmp_path / "part").mkdir()
    shutil.copy(local.workdir / "config.json", tmp_path / "part")
    for name in local.ancestors(STAGE):
        shutil.copytree(local.directory(name), tmp_path / "part" / "stages" / name)
    toy.save_config(toy.config(), f"{bucket}/run")

    original, count = trainer.place_batch, iter(range(1000))

    def preempted(batch, mesh):
        if next(count) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(batch, mesh)

    monkeypatch.setattr(trainer, "place_batch", preempted)
    train = ["train", f"--workdir={bucket}/run", "--quiet", f"--stage={STAGE}"]
    with pytest.raises(SystemExit) as exit:
        cli.main([*train, f"--reuse={tmp_path / 'part'}"])
    assert exit.value.code == EXIT_PREEMPTED
    remote = load_run(f"{bucket}/run")
    storage.write_text(remote.directory(STAGE) / "params" / "manifest.ocdbt", "of an interrupted write")
    cli.main(train)
    assert set(remote.finished_stages()) == {*local.ancestors(STAGE), STAGE}
    a, b = (load_params(str(run.directory(STAGE) / "params")) for run in (local, remote))
    assert toy.same(a, b)
    lines = (remote.directory(STAGE) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(local.stage(STAGE).steps))
    assert json.loads((remote.directory(STAGE) / "cost.json").read_text())["total"] > 0
