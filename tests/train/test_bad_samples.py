"""Bad samples of a stage: its log, metrics and last line say them, and a resumed stage does not try them again."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.train.recipe import open_run
from codi_jax.train.trainer import train
from tests import toy
from tests.train.finished import interrupt

STAGE = "codec.image"


def run_on(folder, workdir, limit):
    """A run whose image codec is trained on the files of a folder."""
    tree = toy.config().to_dict()
    table = {"name": "manifest", "path": str(folder / "table.jsonl"), "media": {"modalities": ("image",), "size": 32}}
    tree["sources"]["files"] = {**table, "faults": {"max_bad_fraction": limit}}
    tree["stages"]["codec"]["image"] |= {"source": "files", "checkpoint_every": 2, "log_every": 1, "batch_size": 16}
    return open_run(ConfigDict(tree), workdir)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """48 images, of which one is missing, one empty and one cut."""
    root = tmp_path_factory.mktemp("files")
    for i in range(48):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(root / f"{i}.png")
    (root / "5.png").unlink()
    (root / "6.png").write_bytes(b"")
    (root / "7.png").write_bytes((root / "8.png").read_bytes()[:3000])
    (root / "table.jsonl").write_text("".join(json.dumps({"image": f"{i}.png"}) + "\n" for i in range(48)))
    return root


def test_a_stage_says_which_samples_were_bad(folder, tmp_path, capsys, monkeypatch):
    run = run_on(folder, tmp_path / "run", 0.1)

    def stop():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        interrupt(patch, 3, stop)
        with pytest.raises(KeyboardInterrupt):
            train(run, (STAGE,), quiet=True)
    train(run, (STAGE,), quiet=True)  # the rest of the epoch, and more
    log = run.directory(STAGE) / "bad_samples" / "files.0"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert {(entry["index"], entry["reason"]) for entry in entries} == {(5, "missing"), (6, "empty"), (7, "cut")}
    assert len(entries) == 3  # none was tried again
    lines = [json.loads(line) for line in (run.directory(STAGE) / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["bad_samples"] == 3
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "cannot be used" in line]
    assert said.startswith(f"{STAGE}: 3 samples of files cannot be used and were replaced (")
    assert said.endswith(f"they are listed in {log}")


def test_too_many_end_the_stage(folder, tmp_path):
    with pytest.raises(
        ConfigError, match=r"^data: 1 of \d+ samples cannot be used \(.* 1\), more than max_bad_fraction=0.01"
    ):
        train(run_on(folder, tmp_path / "run", 0.01), (STAGE,), quiet=True)
