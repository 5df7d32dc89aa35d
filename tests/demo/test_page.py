"""The page that the packaged model makes: whole, generated now, kept while the package is the same."""

import re

import pytest

from codi_jax import __version__, packaged
from codi_jax.data.digit_world import FACTORS
from codi_jax.data.sources import make_source
from codi_jax.demo import page
from codi_jax.evaluate.samples import take
from codi_jax.generate import Generator
from tests import toy
from tests.report.test_page import TagChecker


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(path, commands, activities of the progress callback, package)."""
    package, activities = packaged.open_package(str(toy.random_package())), []
    path, commands = page.write(package, tmp_path_factory.mktemp("demo"), lambda what, *steps: activities.append(what))
    return path, commands, activities, package


def test_every_modality_prompts_once_and_is_generated_once(made):
    path, _, activities, _ = made
    assert page.directions(list("abcd")) == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]
    html = path.read_text(encoding="utf-8")
    for title in ("text → image", "image → text", "text + image"):
        assert f"<b>{title}. </b>" in html and any(what.startswith(f"{title}: ") for what in activities)
    assert html.count('<img class="image"') == page.N * 4  # generated, its real sample, a prompt, together
    parser = TagChecker()
    parser.feed(html)
    assert not parser.open and all(source.startswith("data:image/png;base64,") for source in parser.loads)


def test_what_is_said_of_the_samples_is_counted(made):
    html = made[0].read_text(encoding="utf-8")
    marks = re.findall(r'class="(right|wrong)"', html)
    said = [int(k) for k in re.findall(rf"(\d+) of {page.N} show all that their prompt says", html)]
    assert len(marks) == 2 * page.N
    assert said == [marks[: page.N].count("right"), marks[page.N :].count("right")]


def test_the_commands_to_type(made):
    _, commands, _, package = made
    source = make_source(package.run["sources"]["test_seen"])
    caption = take(package.codi, source, [0]).values["text"][0]
    assert set(caption.split()) & {word for values in FACTORS.values() for word in values}
    assert commands == [f'codi-jax generate --text "{caption}" --to image --out d/']


def test_a_page_of_the_same_package_is_kept_and_one_of_another_is_not(made, monkeypatch):
    path, commands, _, package = made
    before = path.read_bytes()
    assert f"codi_jax {__version__}, {package.name}".encode() in before

    def fails(*_, **__):
        raise AssertionError("it generates")

    monkeypatch.setattr(Generator, "generate", fails)
    assert page.write(package, path.parent) == (path, commands)
    assert path.read_bytes() == before
    monkeypatch.setattr(page, "__version__", "0.0.0")
    with pytest.raises(AssertionError, match="it generates"):
        page.write(package, path.parent)
    assert path.read_bytes() == before


def test_the_same_package_makes_the_same_page(made, tmp_path):
    path, _, _, package = made
    again, _ = page.write(package, tmp_path)
    assert again.read_bytes() == path.read_bytes()
