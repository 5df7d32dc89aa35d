"""CITATION.cff: the fields of version 1.2.0 of its format, the version of the package, and the paper."""

import re
from pathlib import Path

import yaml

from codi_jax import __version__

TEXT = (Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8")
CITATION = yaml.safe_load(TEXT)

# Of the schema of citation-file-format 1.2.0.
REQUIRED = {"authors", "cff-version", "message", "title"}
KNOWN = {
    *REQUIRED,
    *("abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url"),
    *("preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url"),
    "version",
}


def test_fields():
    assert REQUIRED <= CITATION.keys() <= KNOWN
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert all(author.keys() in ({"name"}, {"family-names", "given-names"}) for author in CITATION["authors"])


def test_version_and_licence_are_those_of_the_package():
    assert CITATION["version"] == __version__ and CITATION["license"] == "MIT"


def test_the_paper():
    (paper,) = CITATION["references"]
    assert {"type", "title", "authors"} <= paper.keys() and paper["type"] == "article"
    names = [f"{author['given-names']} {author['family-names']}" for author in paper["authors"]]
    assert names == ["Zineng Tang", "Ziyi Yang", "Chenguang Zhu", "Michael Zeng", "Mohit Bansal"]
    assert re.fullmatch(r"10\.\d{4,}/arXiv\.2305\.11846", paper["doi"]) and "2305.11846" in paper["url"]
    assert {x["type"] for x in paper["identifiers"]} <= {"doi", "url", "swh", "other"}
