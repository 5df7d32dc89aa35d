import io
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.data.source import make_source, read_batch


class TinyCaptions(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set without its builder code at read time, as a user prepares one."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "picture": tfds.features.Image(shape=(4, 4, 3)),
            "about": {"said": tfds.features.Text(), "digit": tfds.features.ClassLabel(num_classes=10)},
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(10):
            png = io.BytesIO()
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(png, "png")
            png.seek(0)
            yield i, {"picture": png, "about": {"said": f"größe {i}", "digit": i}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    TinyCaptions(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder)


COLUMNS = {"image": "picture", "text/caption": "about/said", "factors/digit": "about/digit"}


def test_tfds_without_tensorflow(prepared):
    source = make_source({"name": "tfds", "dataset": "tiny_captions", "data_dir": prepared, "columns": COLUMNS})
    batch = read_batch(source, range(10))
    digit = batch["factors"]["digit"]
    assert sorted(digit) == list(range(10))
    assert batch["image"].shape == (10, 4, 4, 3) and (batch["image"] == digit[:, None, None, None]).all()
    assert batch["text"]["caption"].tolist() == [f"größe {d}" for d in digit]
    half = make_source({"name": "tfds", "dataset": "tiny_captions:1.0.0", "data_dir": prepared, "split": "train[:50%]"})
    assert len(half) == 5 and set(half[0]) == {"picture", "about"}
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "nothing_of_that_name"}, "not found"),
        ({"split": "trian"}, "Unknown split"),
        ({"columns": {"image": "images"}}, "no feature 'images'; features are about, picture"),
        ({"columns": {"image": "picture/x"}}, "deeper"),
        ({"dataset": "mnist"}, "tfds build mnist"),
    ],
)
def test_tfds_errors_are_one_line(prepared, change, message):
    config = {"name": "tfds", "dataset": "tiny_captions", "data_dir": prepared, **change}
    with pytest.raises(ConfigError, match=message) as error:
        make_source(config)
    assert "\n" not in str(error.value)


def test_other_sources_do_not_import_tfds():
    code = "import sys; import codi_jax.data.tfds; print('tensorflow_datasets' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
