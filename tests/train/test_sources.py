"""Data sets of others train a codec: in the layouts of docs/data.md, and from a TensorFlow Datasets builder."""

import json

import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from codi_jax.train.recipe import open_run
from codi_jax.train.trainer import train
from tests import toy
from tests.data.layouts import LAYOUTS
from tests.data.test_layouts import LINES
from tests.data.test_tfds import MIXED, Mixed


def losses(workdir, modality, source, **media):
    """The losses of the modality's codec, trained on a source."""
    tree = toy.config(("text", "image", "audio") if modality == "audio" else toy.PAIR).to_dict()
    tree["sources"]["mine"] = {**source, "media": {**source["media"], **media}}
    tree["stages"]["codec"][modality] |= {"source": "mine", "log_every": 1, "batch_size": 16}
    run, stage = open_run(ConfigDict(tree), workdir), f"codec.{modality}"
    train(run, (stage,), quiet=True)
    assert run.finished(stage)
    return [json.loads(line)["loss"] for line in (run.directory(stage) / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "modality", "media"),
    [
        ("COCO captions", "image", {"size": 32}),
        pytest.param(
            *("AudioCaps", "audio", {"samples": 8192, "sample_rate": 8000, "window": "random"}),
            marks=pytest.mark.slow,
        ),
        ("WebVid", "image", {"size": 32, "frames": 2, "modalities": ("video", "image"), "middle_frame": True}),
    ],
)
def test_one_line_of_config_trains(tmp_path, monkeypatch, name, modality, media):
    make, folder, _ = LAYOUTS[name]
    make(tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    found = losses(tmp_path / "run", modality, LINES[name], **media)
    assert found[-1] < found[0]


def test_a_builder_trains(tmp_path):
    tfds.disable_progress_bar()
    Mixed(data_dir=tmp_path / "tfds", file_format="array_record").download_and_prepare()
    source = {**MIXED, "columns": {"image": "image"}, "data_dir": str(tmp_path / "tfds")}
    found = losses(tmp_path / "run", "image", source, modalities=("image",), size=32)
    assert found[-1] < found[0]
