"""The gallery and the pictures of the docs are of the packaged model and the present settings."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gallery, made
from benchmarks.pictures import __main__ as pictures

DOCS = Path(__file__).parents[2] / "docs"
LIMIT = 300 * 1024  # bytes of the gallery


def test_the_gallery_is_current_and_small():
    assert gallery.check(DOCS) == []
    assert sum(path.stat().st_size for path in (DOCS / "gallery").iterdir()) < LIMIT


def test_the_pictures_are_current_and_all_are_shown():
    folder = DOCS / "pictures"
    assert made.stale(folder, pictures.settings()) == []
    shown = re.findall(r"\]\(pictures/(\S+\.svg)\)", (DOCS / "concepts.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(path.name for path in folder.glob("*.svg"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    made.write(tmp_path, {"n": 2, "levels": (1, 2)}, [tmp_path / "a.png"])
    return tmp_path


def test_what_is_stale_is_found(folder, monkeypatch):
    settings = {"n": 2, "levels": (1, 2)}
    assert made.stale(folder, settings) == []
    assert made.stale(folder, {**settings, "n": 3}) == ["they were made with other settings"]
    (folder / "b.png").write_bytes(b"b")
    assert made.stale(folder, settings) == ["b.png is not recorded"]
    (folder / "b.png").unlink()
    (folder / "a.png").write_bytes(b"c")
    assert made.stale(folder, settings) == ["a.png has been changed"]
    (folder / "a.png").unlink()
    assert made.stale(folder, settings) == ["a.png is missing"]
    monkeypatch.setattr(made, "weights", lambda: "others")
    assert made.stale(folder, settings)[0] == "they are of another model than the packaged one"
    (folder / made.MADE).unlink()
    assert made.stale(folder, settings) == [f"{folder / made.MADE} is missing"]


def test_a_page_that_was_edited_is_found(tmp_path, capsys):
    made.write(tmp_path, gallery.settings(), [], captions={"together": ["a red two"] * 6})
    (tmp_path / "made.json").rename(tmp_path / "record")
    (tmp_path / "gallery").mkdir()
    (tmp_path / "record").rename(tmp_path / "gallery" / "made.json")
    page = gallery.page({"together": ["a red two"] * 6})
    (tmp_path / "gallery.md").write_text(page, encoding="utf-8")
    assert gallery.check(tmp_path) == []
    (tmp_path / "gallery.md").write_text(page + "More.\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="1"):
        gallery.main(["--check", f"--out={tmp_path}"])
    assert capsys.readouterr().out == "gallery.md is not what would be written\n"


def test_the_calls_on_the_page_are_those_that_are_made():
    page = gallery.page({})
    calls = re.findall(r"```python\n(.*?)\n```", page)
    made_of = []
    names = {"n": 2, "captions": ["a", "b"]}
    names["first"] = type("First", (), {"image": "images"})
    names["pipe"] = lambda *prompts, **options: made_of.append((*prompts, options))
    for call in calls:
        exec(call, names)
    outputs = {name: section.to for name, section in gallery.SECTIONS.items()}
    assert [of[-1]["to"] for of in made_of] == list(outputs.values())
    assert made_of[0][0] == {"text": ["a", "b"]} and made_of[2][0] == {"image": "images"}
    assert all(len(json.dumps(section._asdict())) for section in gallery.SECTIONS.values())


def test_audio_is_written_as_mp3(tmp_path):
    wave = (8000 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 8000)).astype(np.int16)
    gallery.write_mp3(tmp_path / "a.mp3", wave, 8000)
    from codi_jax.media import files

    read = files.read_audio(tmp_path / "a.mp3", 16_000, 8000)
    assert abs(np.abs(np.fft.rfft(read[:8000])).argmax() - 440) <= 2
