"""What documents, docstrings and comments refer to exists: paths in the package, modules; links: `test_links`."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "codi_jax"
SOURCES = [path for folder in ("codi_jax", "configs", "launch", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
TEXTS = [*SOURCES, *DOCUMENTS, ROOT / "Makefile"]
# A module, or a name in one, as docstrings write them: relative to the package or to digit_world.
MODULE = re.compile(r"`((?:[a-z][a-z_0-9]*\.)+[A-Za-z_0-9]+)(?:\(\))?`")


def name_of(path):
    return str(path.relative_to(ROOT))


def module_exists(parts, base):
    """Whether `parts` name a module below `base`, or something in one."""
    for count in (len(parts), len(parts) - 1):
        path = base.joinpath(*parts[:count])
        if count and (path.is_dir() or path.with_suffix(".py").exists()):
            return True
    return False


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_paths_in_the_package_exist(path):
    found = {ROOT / match for match in re.findall(r"\bcodi_jax(?:/[A-Za-z_0-9]+)+(?:\.[a-z]+)?", path.read_text())}
    assert not [name_of(p) for p in found if not (p.exists() or p.with_suffix(".py").exists())]


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_modules_in_backquotes_exist(path):
    rooms = {p.stem for base in (PACKAGE, PACKAGE / "digit_world") for p in base.iterdir()} - {"config", "plan"}
    missing = []
    for reference in MODULE.findall(path.read_text()):
        parts = reference.removeprefix("codi_jax.").split(".")
        bases = (PACKAGE, PACKAGE / "digit_world")
        if parts[0] in rooms and not any(module_exists(parts, base) for base in bases):
            missing.append(reference)
    assert not missing
