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


class Mixed(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Pictures, sounds and videos of different sizes, and several captions of each."""

    VERSION = tfds.core.Version("1.0.0")
    SIZES = ((20, 30), (40, 25), (16, 16), (64, 9))

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "captions": tfds.features.Sequence({"text": tfds.features.Text()}),
            "speech": tfds.features.Tensor(shape=(None,), dtype=np.int64),  # as Audio, which needs TensorFlow
            "clip": tfds.features.Tensor(shape=(None, None, None, 3), dtype=np.uint8, encoding="zlib"),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, (height, width) in enumerate(self.SIZES):
            shade = np.full((height, width, 3), 50 * i + 30, np.uint8)
            png = io.BytesIO()
            Image.fromarray(shade).save(png, "png")
            png.seek(0)
            yield (
                i,
                {
                    "image": png,
                    "captions": [{"text": f"größe {i}"}, {"text": f"size {i}"}],
                    "speech": np.full(4000 * (i + 1), 1000 * (i + 1), np.int64),
                    "clip": np.stack([shade // 2, shade]).repeat(4, 0),
                },
            )


MIXED = {
    "name": "tfds",
    "dataset": "mixed",
    "columns": {"image": "image", "text": "captions/text", "audio": "speech", "video": "clip"},
    "media": {
        **{"modalities": ("text", "image", "audio", "video"), "size": 16},
        **{"frames": 4, "rate": 4.0, "samples": 16_000, "sample_rate": 16_000},
    },
    "rates": {"audio": 8000, "video": 8.0},
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    tfds.disable_progress_bar()
    Mixed(data_dir=folder, file_format="array_record").download_and_prepare()
    return {**MIXED, "data_dir": str(folder)}


def test_media_of_any_sizes_become_samples_of_one(mixed):
    batch = read_batch(make_source(mixed), range(4))
    order = (batch["image"][:, 8, 8, 0].astype(int) - 30) // 50
    assert sorted(order) == [0, 1, 2, 3] and batch["image"].shape == (4, 16, 16, 3)
    assert all(text in (f"größe {i}", f"size {i}") for text, i in zip(batch["text"]["caption"], order, strict=True))
    # Half a second more for each, at another rate.
    assert batch["audio"].shape == (4, 16_000) and batch["audio"].dtype == np.int16
    for wave, i in zip(batch["audio"], order, strict=True):
        end = min(8000 * (i + 1), 16_000)
        np.testing.assert_allclose(wave[500 : end - 500], 1000 * (i + 1), atol=2)
        assert not wave[end + 500 :].any()
    # Eight frames a second, of half the brightness in the first half second.
    assert batch["video"].shape == (4, 4, 16, 16, 3)
    shades = np.stack([[50 * i + 30 >> 1] * 2 + [50 * i + 30] * 2 for i in order])
    np.testing.assert_array_equal(batch["video"][..., 8, 8, 0], shades)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"columns": {"image": "image"}}, "no feature for text, audio, video"),
        ({"rates": {"audio": 8000}}, "give the samples or frames a second of video$"),
    ],
)
def test_media_without_a_column_or_a_rate(mixed, change, message):
    with pytest.raises(ConfigError, match=message):
        make_source({**mixed, **change})


def test_other_sources_do_not_import_tfds():
    code = "import sys; import codi_jax.data.tfds; print('tensorflow_datasets' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
