"""Guesses what the columns of a table are: captions, media files, or names from which the paths of files are made."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from codi_jax.data.columns import Column, as_list
from codi_jax.data.decoded_source import KINDS
from codi_jax.data.folder import KIND
from codi_jax.data.path_templates import DISTINCT, guess_template, media_files, path_of
from codi_jax.data.tables import Table
from codi_jax.media.files import MediaError, MediaFile
from codi_jax.media.metadata import probe

CAPTION, IMAGE, AUDIO, VIDEO = KINDS
CAPTION_COLUMNS = (
    *("caption", "captions", CAPTION, "sentences", "sentence", "raw", "description", "prompt", "title"),
    *("display_name", "label", "name"),
)
_NUMBERED = re.compile(r"(caption|sentence|description|text)s?_?\d+")
_TESTED = 100  # rows whose files are looked for
_WORDS = 1.3  # per value, from which on an unknown column is one of captions

Row = Mapping[str, Any]


def file_columns(rows: Sequence[Row], folder: Path) -> tuple[Path | None, dict[str, str]]:
    """The columns of media files, by modality, and the folder that their paths are relative to; None if there is none.

    Args:
      rows: some rows of a table.
      folder: where the table is; its files are looked for below it and, if there are none, below the folder around it.
    """
    columns: dict[str, str] = {}
    paths: dict[str, str] = {}
    for name in rows[0]:
        values = [row[name] for row in rows[:_TESTED] if row.get(name) not in (None, "")]
        kind = _kind(values[0]) if values else None
        if kind and isinstance(values[0], str):
            paths.setdefault(kind, name)
        elif kind:
            columns.setdefault(kind, name)
    if columns:
        return None, columns
    sample = rows[:_TESTED]
    # The folder around it may hold other data, in which there is a 1.png, too.
    around = folder.parent if folder.parent != folder else folder.resolve().parent
    for base, least, length in ((folder, 1, 1), (around, max(2, len(sample) / 2), DISTINCT)):
        below = media_files(str(base))
        best = {kind: _path_column(sample, paths.get(kind), below[kind]) for kind in below}
        found = {kind: template for kind, (hits, template) in best.items() if hits >= least}
        if found and all(_shortest(template, sample) >= length for template in found.values()):
            return _common_root(base, found)
    return None, paths


def _shortest(template: str, rows: Sequence[Row]) -> int:
    """The length of the shortest file name, without its suffix."""
    column = Column(template)
    return min((len(Path(path).stem) for row in rows if (path := path_of(column, row))), default=0)


def _kind(value: Any) -> str | None:
    """The modality of a path (not of a URL), or of the bytes of a file."""
    path, data = (value.get("path"), value.get("bytes")) if isinstance(value, Mapping) else (value, value)
    suffix = path.rpartition(".")[2].lower() if isinstance(path, str) and "://" not in path else ""
    if KIND.get(suffix, CAPTION) != CAPTION:
        return KIND[suffix]
    if isinstance(data, bytes):
        with suppress(MediaError):
            found = probe(MediaFile("bytes", data))
            return VIDEO if "frames a second" in found else AUDIO if "samples a second" in found else IMAGE
    return None


def _path_column(rows: Sequence[Row], column: str | None, known: Sequence[str]) -> tuple[int, str]:
    """Of the templates of the paths of one kind, that of most files, and of how many rows it finds the file."""
    found = [(0, "")]
    if column is not None:
        values, existing = [str(row.get(column)) for row in rows], set(known)
        parents = {parent for folder in {os.path.dirname(path) for path in known} for parent in _parents(folder)}
        for parent in sorted(parents | {""}, key=lambda parent: (len(parent), parent)):
            hits = sum(os.path.normpath(os.path.join(parent, value)) in existing for value in values)
            found.append((hits, f"{parent}/{{{column}}}".lstrip("/")))
    if max(found)[0] < len(rows) and (guessed := guess_template(rows, known)):
        found.append((guessed[1], guessed[0]))
    return max(found, key=lambda item: item[0])


def _parents(folder: str) -> Iterator[str]:
    """A relative folder and those around it."""
    while folder:
        yield folder
        folder = os.path.dirname(folder)


def _common_root(base: Path, templates: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    """The folder that all files are in, and their columns: the templates relative to it."""
    fixed = [template.split("{")[0].rpartition("/")[0] for template in templates.values()]
    root = os.path.commonpath(fixed) if all(fixed) else ""
    relative = {kind: template[len(root) :].lstrip("/") for kind, template in templates.items()}
    plain = {kind: re.sub(r"^{([^{}:]+)}$", r"\1", template) for kind, template in relative.items()}
    return base / root, plain


def caption_column(rows: Sequence[Row], names: Set[str], used: Mapping[str, str]) -> str | tuple[str, ...] | None:
    """The column of captions: of a known name, or else the one of most words; None if there is none.

    Args:
      rows: some rows of a table.
      names: the columns of the table.
      used: the columns of media files, see `file_columns`.
    """
    taken = {name for column in used.values() for name in Column(column).names}
    numbered = sorted(name for name in names if _NUMBERED.fullmatch(name))
    if len(numbered) > 1:
        return tuple(numbered)
    words: dict[str, float] = {}
    for name in names - taken:
        values = [x for row in rows for x in as_list(row.get(name))]
        if values and all(isinstance(x, Mapping) for x in values):
            key = next((key for key in CAPTION_COLUMNS if isinstance(values[0].get(key), str)), None)
            if key:
                words[f"{name}/{key}"] = float(name in CAPTION_COLUMNS)
        elif values and all(isinstance(x, str) and "://" not in x for x in values):
            words[name] = sum(len(x.split()) for x in values) / len(values)
    for name in CAPTION_COLUMNS:
        if column := next((column for column in words if column.split("/")[0] == name), None):
            return f"{{{column}}}" if name == "display_name" else column  # all labels of a sample in one caption
    best = max(sorted(words), key=lambda name: words[name], default=None)
    return best if best and words[best] >= _WORDS else None


def describe_splits(table: Table) -> list[str]:
    """How many rows each split has, as lines of text, if a column says which row belongs to which."""
    lines = []
    for name in sorted({"split", "subset", "fold"} & table.columns):
        counts = Counter(map(str, table.values(name)))
        shown = ", ".join(f"{value} {count}" for value, count in counts.most_common(6))
        where = f"{name}={counts.most_common(1)[0][0]}"
        lines.append(f"column {name}: {shown}; {{'where': {where!r}}} reads one of them")
    return lines
