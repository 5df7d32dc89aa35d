"""The examples run, here with a toy in place of the packaged model."""

import numpy as np
import pytest

from codi_jax import packaged
from examples import quickstart, retrieval
from tests import toy


@pytest.fixture(autouse=True)
def model(monkeypatch):
    monkeypatch.setitem(packaged.MODELS, packaged.DEFAULT, toy.random_package())


def test_quickstart(tmp_path, capsys):
    out = quickstart.main(str(tmp_path / "d"))
    first, *paths = capsys.readouterr().out.splitlines()
    assert first.startswith("a red seven → image → ") and list(out) == list(toy.PAIR)
    assert [str(path) for path in sorted((tmp_path / "d").iterdir())] == sorted(paths) and len(paths) == 4
    assert np.asarray(out.image[0]).shape == (32, 32, 3)


def test_retrieval(capsys):
    captions = ["a red two", "a green five"]
    nearest = retrieval.main(captions, k=2)
    assert [sorted(found) for found in nearest] == [sorted(captions)] * 2
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(" → ")[0].strip() for line in lines] == captions and last.endswith("of 2")


def test_the_captions_of_retrieval_are_in_the_words_of_the_model():
    assert not toy.codi()["text"].unknown(retrieval.CAPTIONS)
