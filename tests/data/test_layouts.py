"""Data sets in the layouts in which they are distributed: the lines of config in docs/data.md, and `data inspect`."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from codi_jax import cli
from codi_jax.cli.common import read_config
from codi_jax.data.source import make_source
from tests.data.layouts import LAYOUTS

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
LINES = {
    name: ast.literal_eval(line)
    for name, line in re.findall(r"^\| (.+?) \| .*?`(\{.*\})` \|$", DOCS.read_text(encoding="utf-8"), re.M)
}
SMALL = {"size": 8, "frames": 2, "samples": 16_000, "timeout_s": 0}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Every data set below one folder; by name, the captions of each of its samples."""
    root = tmp_path_factory.mktemp("layouts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield {name: make(root / folder) for name, (make, folder, _) in LAYOUTS.items()}


def captions(source):
    """The captions of each record; every sample can be decoded."""
    inner = source.source
    for i in range(len(inner)):
        inner[i]
    values = [inner.record(i)["text"] for i in range(len(inner))]
    return [value if isinstance(value, list) else [value.strip()] for value in values]


def small(config):
    return {**config, "media": {**config["media"], **SMALL}}


def test_the_documentation_has_a_line_for_every_layout():
    assert list(LINES) == list(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_line_of_config_reads_the_data_set(expected, name):
    source = make_source(small(LINES[name]))
    assert captions(source) == expected[name]
    sample = source.source[len(source) - 1]
    if "image" in sample:
        assert sample["image"].shape == (8, 8, 3) and abs(int(sample["image"][4, 4, 0]) - 170) < 4
    if "audio" in sample:
        assert (sample["audio"] == 4000).all()
    if "video" in sample:
        assert sample["video"].shape == (2, 8, 8, 3)


@pytest.mark.parametrize("name", LAYOUTS)
def test_inspect_prints_a_config_that_reads_the_data_set(expected, name, capsys):
    _, folder, path = LAYOUTS[name]
    cli.main(["data", "inspect", f"{folder}/{path}".rstrip("/"), "--n=4"])
    out = capsys.readouterr().out
    config = ast.literal_eval(out[out.rindex("\n{") :].strip())
    line = LINES[name]
    found = make_source(small(config)).source
    written = make_source(small({k: v for k, v in line.items() if k != "where"})).source
    assert len(found) == len(written), config
    kinds = [kind for kind in line["media"]["modalities"] if kind != "text" or name != "folders as classes"]
    assert list(config["media"]["modalities"]) == kinds, config
    for i in range(len(found)):
        a, b = found[i], written[i]
        for kind in kinds:
            same = a[kind]["caption"] == b[kind]["caption"] if kind == "text" else (a[kind] == b[kind]).all()
            assert same, (kind, i, config)


@pytest.mark.parametrize("name", ["AudioSet", "COCO captions", "img2dataset, webdataset", "captions beside the files"])
def test_inspect_prints_a_command_whose_sources_read_the_data_set(expected, name, capsys):
    _, folder, path = LAYOUTS[name]
    cli.main(["data", "inspect", f"{folder}/{path}".rstrip("/"), "--n=1"])
    (line,) = re.findall("^codi-jax train (.*) --workdir=DIRECTORY$", capsys.readouterr().out, re.M)
    (config,) = read_config(shlex.split(line)).sources.to_dict().values()
    found = make_source(small(config))
    written = make_source(small({k: v for k, v in LINES[name].items() if k != "where"}))
    assert captions(found) == captions(written) and found.source[0].keys() == written.source[0].keys()
