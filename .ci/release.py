"""Checks a tag before a release, and prints the section of CHANGELOG.md for it: python .ci/release.py v0.2.0

Exits with 1 and one line if the tag is not the version of the package, or CHANGELOG.md has nothing about it.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def section(changes: str, version: str) -> str:
    """What CHANGELOG.md says about a version; empty if it has no section for it."""
    found = re.search(rf"^## {re.escape(version)}\n(.*?)(?=^## |\Z)", changes, re.DOTALL | re.MULTILINE)
    return found[1].strip() if found else ""


def notes(root: Path, tag: str) -> str:
    """The notes of the release with this tag.

    Raises:
      SystemExit: the tag is not the version of the package, or CHANGELOG.md says nothing about it.
    """
    source = (root / "codi_jax" / "__init__.py").read_text(encoding="utf-8")
    found = re.search('^__version__ = "(.+)"$', source, re.MULTILINE)
    version = found[1] if found else "unknown"
    if tag != f"v{version}":
        raise SystemExit(f"the tag is {tag}, but the package is {version}: tag it v{version}, or change __version__")
    text = section((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    if not text:
        raise SystemExit(f"CHANGELOG.md has nothing under '## {version}': name the section of unreleased changes so")
    return text


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python .ci/release.py TAG")
    print(notes(ROOT, sys.argv[1]))
