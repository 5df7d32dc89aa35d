"""A data set that a user's own TensorFlow Datasets builder has prepared, images of several sizes, trains a codec."""

import json

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from codi_jax.train.recipe import open_run
from codi_jax.train.trainer import train
from tests import toy
from tests.data.test_tfds import MIXED, Mixed

STAGE = "codec.image"


def test_a_builder_trains(tmp_path):
    tfds.disable_progress_bar()
    Mixed(data_dir=tmp_path / "tfds", file_format="array_record").download_and_prepare()
    tree = toy.config().to_dict()
    media = {"modalities": ("image",), "size": 32}
    tree["sources"]["mine"] = {
        **MIXED,
        "columns": {"image": "image"},
        "media": media,
        "data_dir": str(tmp_path / "tfds"),
    }
    tree["stages"]["codec"]["image"] |= {"source": "mine", "log_every": 1, "batch_size": 16}
    run = open_run(ConfigDict(tree), tmp_path / "run")
    train(run, (STAGE,), quiet=True)
    losses = [json.loads(line)["loss"] for line in (run.directory(STAGE) / "metrics.jsonl").read_text().splitlines()]
    assert run.finished(STAGE) and losses[-1] < losses[0]
