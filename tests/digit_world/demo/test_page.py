"""The page of the packaged model: complete, generated, kept while the package is the same."""

import re

import pytest

from codi_jax import __version__, packaged
from codi_jax.data.source import make_source
from codi_jax.digit_world import FACTORS
from codi_jax.digit_world.benchmark.samples import take
from codi_jax.digit_world.demo import page
from codi_jax.sampling.generator import Generator
from tests import toy
from tests.digit_world.report.test_page import TagChecker


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(path, commands, activities of the progress callback, package)."""
    package, activities = packaged.open_package(str(toy.random_package())), []
    path, commands = page.write(package, tmp_path_factory.mktemp("demo"), lambda name, *steps: activities.append(name))
    return path, commands, activities, package


def test_every_modality_is_prompt_once_and_output_once(written):
    path, _, activities, _ = written
    assert page.directions(list("abcd")) == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]
    html = path.read_text(encoding="utf-8")
    for title in ("text → image", "image → text", "text + image"):
        assert f"<b>{title}. </b>" in html and any(activity.startswith(f"{title}: ") for activity in activities)
    assert html.count('<img class="image"') == page.N * 4  # output, real sample, prompt, joint output
    parser = TagChecker()
    parser.feed(html)
    assert not parser.open and all(source.startswith("data:image/png;base64,") for source in parser.loads)


def test_captions_count_the_correct_outputs(written):
    html = written[0].read_text(encoding="utf-8")
    marks = re.findall(r'class="(right|wrong)"', html)
    counts = [int(k) for k in re.findall(rf"In (\d+) of {page.N} outputs all factors of the prompt are correct", html)]
    assert len(marks) == 2 * page.N
    assert counts == [marks[: page.N].count("right"), marks[page.N :].count("right")]


def test_example_commands(written):
    _, commands, _, package = written
    source = make_source(package.run["sources"]["test_seen"])
    caption = take(package.codi, source, [0]).values["text"][0]
    assert set(caption.split()) & {word for values in FACTORS.values() for word in values}
    assert commands == [f'codi-jax generate --text "{caption}" --to image --out d/']


def test_a_page_is_kept_for_the_same_package_and_version_only(written, monkeypatch):
    path, commands, _, package = written
    before = path.read_bytes()
    assert f"codi_jax {__version__}, {package.name}".encode() in before

    def fails(*_, **__):
        raise AssertionError("generated again")

    monkeypatch.setattr(Generator, "generate", fails)
    assert page.write(package, path.parent) == (path, commands)
    assert path.read_bytes() == before
    monkeypatch.setattr(page, "__version__", "0.0.0")
    with pytest.raises(AssertionError, match="generated again"):
        page.write(package, path.parent)
    assert path.read_bytes() == before


def test_the_same_package_gives_the_same_page(written, tmp_path):
    path, _, _, package = written
    again, _ = page.write(package, tmp_path)
    assert again.read_bytes() == path.read_bytes()
