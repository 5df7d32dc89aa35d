"""The benchmark of fine-tuning: the folder it writes and its table."""

import csv

import numpy as np

import codi_jax
from benchmarks.finetune import MEDIA, labels, make, to_table
from codi_jax.data.source import make_source
from codi_jax.digit_world import DigitWorld, WorldConfig
from codi_jax.packaged import DEFAULT


def test_captions_are_labels():
    factors = {"digit": [7, 0], "colour": [0, 5], "motion": [0, 3], "voice": [0, 1], "moment": [0, 2]}
    factors = {name: np.array(values) for name, values in factors.items()}
    assert labels(factors) == ["seven red left low early", "zero white down high late"]


def test_the_folder_holds_the_samples_of_the_world(tmp_path):
    codi = codi_jax.load(DEFAULT).codi
    formats = {name: codi[name].value_format for name in MEDIA}
    path = make(tmp_path, 2, formats)
    with path.open(newline="") as file:
        assert next(csv.reader(file)) == ["text", *MEDIA]
    media = {"modalities": ("text", "image", "audio"), "size": formats["image"]["size"]}
    media |= {"samples": formats["audio"]["samples"], "sample_rate": formats["audio"]["rate"]}
    sample = make_source({"name": "manifest", "path": str(path), "media": media})[1]
    true = DigitWorld(WorldConfig(size=2, modalities=("text", "image", "audio"), merged=True))[1]
    np.testing.assert_allclose(sample["image"] / 127.5 - 1, true["image"], atol=1 / 127)
    np.testing.assert_allclose(sample["audio"] / 2**15, np.clip(true["audio"], -1, 1), atol=1e-4)


def test_a_line_for_each_kind_of_caption():
    row = {"mean": 0.5, "digit": 0.25, "interval": [0.2, 0.3]}
    lines = to_table({"labels image": row}, {"labels image": {**row, "mean": 0.75}}).splitlines()
    assert lines[1].split()[:4] == ["labels", "image", "0.500", "0.750"]
