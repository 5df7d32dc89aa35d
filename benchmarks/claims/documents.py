"""The places of tables in documents.

<!-- claims:joint -->
what `claims.tables` gives for `joint`
<!-- /claims -->
"""

import re
from collections.abc import Mapping, Sequence

from benchmarks.claims.tables import TABLES
from codi_jax.config import ConfigError, did_you_mean

# Document -> the tables that it must have.
DOCUMENTS: dict[str, tuple[str, ...]] = {
    "README.md": ("directions", "joint", "compared"),
    "docs/results.md": tuple(name for name in TABLES if name != "tasks"),
    "docs/evaluation.md": ("tasks",),
}
OPENING = re.compile(r"^<!-- claims:(\S+) -->$", re.MULTILINE)
CLOSING = "<!-- /claims -->"


def rewrite(document: str, text: str, tables: Mapping[str, str], required: Sequence[str]) -> tuple[str, list[str]]:
    """A document with its tables as they are now, and the names of those that it had otherwise.

    Args:
      document: its name, for errors.
      text: its content.
      tables: the content of each table by name.
      required: the names of tables that it must have.

    Raises:
      ConfigError: a marker is missing, is not closed, or names no table.
    """
    names = OPENING.findall(text)
    if missing := [name for name in required if name not in names]:
        marks = ", ".join(f"<!-- claims:{name} -->" for name in missing)
        raise ConfigError(f"{document}: no {marks}, each with {CLOSING} after it")
    pieces, changed, position = [], [], 0
    for opening in OPENING.finditer(text):
        name = opening[1]
        if name not in tables:
            known = ", ".join(tables)
            raise ConfigError(f"{document}: no table {name!r}{did_you_mean(name, list(tables))}; there are {known}")
        end, following = text.find(CLOSING, opening.end()), OPENING.search(text, opening.end())
        if end < 0 or (following and following.start() < end):
            raise ConfigError(f"{document}: no {CLOSING} after {opening[0]}")
        content = f"\n\n{tables[name]}\n\n"
        if text[opening.end() : end] != content:
            changed.append(name)
        pieces += [text[position : opening.end()], content]
        position = end
    return "".join((*pieces, text[position:])), changed
