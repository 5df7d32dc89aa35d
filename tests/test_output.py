"""What a pipeline returns: types that users have, files, and HTML."""

import copy

import numpy as np
import pytest
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.media.audio import Audio
from codi_jax.output import Output
from codi_jax.sampling.files import save
from tests import toy

RAW = {
    "text": ["a <red> seven", ""],
    "image": list(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)),
    "audio": list(np.random.default_rng(0).integers(-9000, 9000, (2, 8192)).astype(np.int16)),
    "video": list(np.zeros((2, 8, 32, 32, 3), np.uint8)),
}


@pytest.fixture
def out():
    return Output(toy.codi(*toy.EVERYTHING), RAW, {})


def test_values_have_the_types_of_users(out):
    assert out.text == RAW["text"]
    assert isinstance(out.image[1], Image.Image)
    np.testing.assert_array_equal(np.asarray(out.image[1]), RAW["image"][1])
    samples, rate = out.audio[0]
    assert isinstance(out.audio[0], Audio) and samples.dtype == np.float32 and rate == 8000
    np.testing.assert_array_equal(samples * 32768, RAW["audio"][0])
    assert out.video[0].shape == (8, 32, 32, 3) and out.video[0].dtype == np.uint8


def test_it_is_a_mapping_with_an_attribute_for_every_output(out):
    assert list(out) == list(toy.EVERYTHING) and len(out) == 4 and "image" in out and "smell" not in out
    assert out["image"] is out.image and dict(out)["text"] == RAW["text"]
    assert set(toy.EVERYTHING) <= set(dir(out)) and repr(out) == "Output(text: 2, image: 2, audio: 2, video: 2)"
    assert copy.copy(out).text == out.text
    with pytest.raises(AttributeError, match=r"^'smell' is not an output; there are text, image, audio, video$"):
        out.smell  # noqa: B018
    with pytest.raises(KeyError):
        out["smell"]


def test_it_is_saved_as_the_files_of_its_raw_values(out, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = out.save("~/new/folder")
    want = save(toy.codi(*toy.EVERYTHING), RAW, tmp_path / "raw")
    assert [path.name for path in paths] == [path.name for path in want]
    assert paths[0] == tmp_path / "new" / "folder" / "text_0.txt"
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in want]
    with pytest.raises(ConfigError, match=r"text_0\.txt is a file; choose a directory"):
        out.save(paths[0])


def test_a_notebook_shows_all_values_without_other_files(out):
    html = out._repr_html_()
    assert html.count('src="data:image/png') == html.count('src="data:image/webp') == 2
    assert html.count("<audio ") == 2 and "a &lt;red&gt; seven" in html and "(empty)" in html
    assert "http" not in html and [f"<th>{name}</th>" in html for name in out] == [True] * 4
    assert out.audio[0]._repr_html_() == toy.codi(*toy.EVERYTHING)["audio"].html(RAW["audio"][0])
