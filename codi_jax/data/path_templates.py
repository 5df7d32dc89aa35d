"""Guesses how the paths of media files are made from the columns of a table, by comparing rows with the files."""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from codi_jax.data.columns import Column, seconds
from codi_jax.data.decoded_source import is_caption
from codi_jax.data.folder import KIND

MAX_FILES = 200_000  # that are looked at
_ROWS = 20  # rows that are compared with all files
_TESTED = 500  # rows on which a template is tested
_CANDIDATES = 5  # files that are named after one value and looked at
_FINDS = 1000  # files that contain it in their path
_WIDTHS = (3, 4, 5, 6, 8, 9, 10, 12)  # of numbers with leading zeros
DISTINCT = 5  # characters from which on a value is not in a path by chance

Row = Mapping[str, Any]


def media_files(root: str) -> dict[str, list[str]]:
    """The relative paths of the media files below a folder, by modality; of the first `MAX_FILES`."""
    found: dict[str, list[str]] = {}
    count = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for file in sorted(files):
            kind = KIND.get(file.rpartition(".")[2].lower())
            if kind is not None and not is_caption(kind):
                found.setdefault(kind, []).append(os.path.normpath(os.path.join(os.path.relpath(folder, root), file)))
                count += 1
        if count >= MAX_FILES:
            break
    return found


def guess_template(rows: Sequence[Row], files: Iterable[str]) -> tuple[str, int] | None:
    """The template of the files' paths, and for how many rows there is such a file; None if for none.

    Args:
      rows: rows of the table.
      files: relative paths.
    """
    known, stems = set(files), {}
    for file in known:
        stems.setdefault(PurePosixPath(file).stem, []).append(file)
    listing = "\n".join(("", *sorted(known), ""))
    found: dict[str, int] = {}
    for row in rows[:_ROWS]:
        spellings = _spellings(row)
        for text in {text for text, _, _ in spellings}:
            named = _containing(listing, text) if len(text) >= DISTINCT else ()
            for file in itertools.islice((*stems.get(text, ()), *named), _CANDIDATES):
                found[_generalized(file, spellings)] = 0
    for template in found:
        column = Column(template)
        found[template] = sum(path_of(column, row) in known for row in rows[:_TESTED])
    # Of templates that find as many files, the one with the most columns, then the shortest.
    best = max(found, key=lambda template: (found[template], template.count("{"), -len(template)), default=None)
    if best is None or not found[best]:
        return None
    return best, found[best]


def _containing(listing: str, text: str) -> Iterator[str]:
    """The lines of a list of files, which begins and ends with an empty one, whose file name contains a text."""
    end = 0
    for _ in range(_FINDS):
        if (at := listing.find(text, end)) < 0:
            return
        start, end = listing.rfind("\n", 0, at) + 1, listing.index("\n", at)
        if "/" not in listing[at:end]:
            yield listing[start:end]


def path_of(column: Column, row: Row) -> str | None:
    """The path in a row; None if it has none, or a value that the template cannot write."""
    try:
        return column(row)
    except ValueError:
        return None


def _spellings(row: Row) -> list[tuple[str, str, str]]:
    """How values may be written in a path: (as written, column, its template), long ones first."""
    out = []
    for name, value in row.items():
        text = str(value)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not re.fullmatch(r"[^\s/{}]+", text):
            continue
        out.append((text, name, f"{{{name}}}"))
        try:
            number = seconds(value)
        except ValueError:
            continue
        if number.is_integer():
            out.append((f"{number:.0f}", name, f"{{{name}:.0f}}"))
            out += [(f"{int(number):0{width}d}", name, f"{{{name}:0{width}d}}") for width in _WIDTHS]
        out.append((f"{round(1000 * number)}", name, f"{{{name}:ms}}"))
    return sorted(out, key=lambda spelling: -len(spelling[0]))


def _generalized(file: str, spellings: Sequence[tuple[str, str, str]]) -> str:
    """The path as a template: values of a row are replaced by their columns, each column once in a piece."""
    pieces = [(file, False)]  # text, and whether it is a column
    used: set[str] = set()
    for text, name, template in spellings:
        # A short value counts between characters that are neither letters nor digits.
        pattern = re.escape(text) if len(text) >= DISTINCT else rf"(?<![^\W_]){re.escape(text)}(?![^\W_])"
        if name in used or not any(re.search(pattern, piece) for piece, replaced in pieces if not replaced):
            continue
        used.add(name)
        split = []
        for piece, replaced in pieces:
            literals = [piece] if replaced else re.split(pattern, piece)
            for i, literal in enumerate(literals):
                split += [(template, True)] * (i > 0) + [(literal, replaced)]
        pieces = split
    return "".join(piece if replaced else piece.replace("{", "{{").replace("}", "}}") for piece, replaced in pieces)
