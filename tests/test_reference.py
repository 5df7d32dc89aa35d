"""The reference of the site: every public name has its place, and what it names exists."""

import re
from pathlib import Path

import pytest

from tests import registries
from tests.names import find

ROOT = Path(__file__).parents[1]
PUBLIC = (Path(__file__).with_name("public_names.txt")).read_text()
NAMES = [
    name
    for path in sorted((ROOT / "docs" / "reference").glob("*.md"))
    for name in re.findall(r"^::: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.fixture(scope="module", autouse=True)
def plugins():
    """Modules that register entries are imported."""
    with registries.polymnist():
        yield


@pytest.mark.parametrize("name", NAMES)
def test_what_it_names_exists(name):
    assert find(name) is not None


def test_nothing_is_named_twice():
    assert len(set(NAMES)) == len(NAMES)


def test_every_public_name_is_in_it():
    exported = re.findall(r"^(codi_jax[\w.]*): (\w+)$", PUBLIC, re.MULTILINE)
    assert len(exported) > 100
    assert {f"{module}.{name}" for module, name in exported if not name.startswith("__")} <= {*NAMES}
