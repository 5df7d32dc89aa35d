"""The examples and the beginning of README run, here with a toy in place of the packaged model."""

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from codi_jax import packaged
from examples import own_loop, quickstart, retrieval
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


def test_the_beginning_of_readme(monkeypatch, tmp_path):
    """With a model of four modalities."""
    codi = toy.codi(*toy.EVERYTHING)
    run = {**toy.config().to_dict(), "model": toy.model(toy.EVERYTHING)}
    run["generate"] = {"guidance": {}, "steps": 1}
    config = {"run": run, "judges": {"model": run["model"], "settings": {}}}
    packaged.write(tmp_path / "model", {"model": toy.variables(codi)}, config, "float32")
    monkeypatch.setitem(packaged.MODELS, packaged.DEFAULT, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1].replace("n=4", "n=1"), names)
    assert names["rate"] == 8000 and names["samples"].shape == (8192,)
    assert [path.name for path in sorted((tmp_path / "d").iterdir())] == ["audio_0.wav", "image_0.png", "video_0.mp4"]
    assert names["vectors"]["image"].shape == names["vectors"]["text"].shape == (1, toy.D)


def test_retrieval(capsys):
    captions = ["a red two", "a green five"]
    nearest = retrieval.main(captions, k=2)
    assert [sorted(found) for found in nearest] == [sorted(captions)] * 2
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(" → ")[0].strip() for line in lines] == captions and last.endswith("of 2")


def test_the_captions_of_retrieval_are_in_the_words_of_the_model():
    assert not toy.codi()["text"].ignored(retrieval.CAPTIONS)


def test_own_loop(capsys):
    """The loss falls in eight steps; it is a loop of at most 15 lines."""
    losses = own_loop.main(steps=8)
    assert len(losses) == 8 and np.isfinite(losses).all() and losses[-1] < losses[0] / 2
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["0", "7"]
    body = ast.parse(inspect.getsource(own_loop.main)).body[0].body
    assert body[-1].end_lineno - body[1].lineno + 1 <= 15
