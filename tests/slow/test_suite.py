"""The suite of the paper with the packaged model on small data sets, with random feature weights; one process and two.

The model was trained on what the data sets show, and the tower is its own, so that similarities are not outside
judgements: they show that prompts reach outputs, and outputs each other, through files and all.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codi_jax import cli
from codi_jax.evaluation.suite import paper
from tests.evaluation.suite import sets

ROOT = Path(__file__).parents[2]
N = 32


def first(row):
    return next(iter(row["numbers"].values()))


@pytest.mark.slow
def test_the_packaged_model_on_every_task(tmp_path, capsys):
    made = {name: getattr(sets, name)(tmp_path / name, N + 1) for name in ("coco", "audiocaps", "msrvtt", "ucf101")}
    datasets = ",".join(f"{name}={path}" for name, path in made.items())
    networks = "inception=random:8,vggish=random:8,tower=digit_world"
    with capsys.disabled():
        cli.main(
            [
                *("evaluate", "--suite=paper", "--model=digit_world", f"--datasets={datasets}"),
                *(f"--networks={networks}", f"--n={N}", f"--out={tmp_path / 'out'}"),
            ]
        )
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    tasks = {task["name"]: task for task in found["tasks"]}
    assert list(tasks) == [task.name for task in paper.TASKS] and not found["left_out"]
    for name, task in tasks.items():
        for row in task["settings"]["joint"]:
            if row["metric"] == "cosine" and task["dataset"] != "ucf101":  # whose captions the model cannot read
                assert first(row) > row["numbers"]["shuffled"] + 0.2, (name, row["on"])
    for name in ("image+audio_to_text+image.msrvtt", "text_to_image+audio+video.msrvtt"):
        joint, alone = (
            next(first(row) for row in tasks[name]["settings"][setting] if row["metric"] in ("sim", "cosine"))
            for setting in ("joint", "independent")
        )
        assert joint > alone - 0.02, name


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(tmp_path):
    coco = sets.coco(tmp_path / "coco", 6)
    options = ["--suite=paper", "--model=digit_world", f"--datasets=coco={coco}", "--networks=tower=digit_world"]
    options += ["--n=6", "--batch-size=4", "--tasks=text_to_image.coco", "--resamples=10"]
    cli.main(["evaluate", *options, f"--out={tmp_path / 'one'}"])
    command = [sys.executable, "-m", "codi_jax.cli", "evaluate", *options, f"--out={tmp_path / 'two'}"]
    launcher = [sys.executable, "launch/local_pod.py", "--processes=2", "--devices=2", "--"]
    subprocess.run([*launcher, *command], cwd=ROOT, check=True, timeout=900)
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    np.testing.assert_allclose(
        first(one["tasks"][0]["settings"]["joint"][0]), first(two["tasks"][0]["settings"]["joint"][0]), atol=1e-3
    )
    images = sorted((tmp_path / "one" / "samples" / "text_to_image.coco" / "image").iterdir())
    assert len(images) == 6
    for path in images:
        other = tmp_path / "two" / "samples" / "text_to_image.coco" / "image" / path.name
        assert np.abs(np.asarray(Image.open(path)).astype(int) - np.asarray(Image.open(other))).max() <= 1
