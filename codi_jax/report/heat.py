"""Heat maps of numbers from 0 to 1: as SVG, and the colours of a cell, which tables share."""

from collections.abc import Sequence
from typing import NamedTuple

from codi_jax.report.markup import Html, el, number
from codi_jax.report.svg import drawing, text_at

LIGHT, DARK = (241, 246, 250), (22, 101, 138)  # of 0 and of 1
_WHITE_FROM = 0.83  # black and white letters are both readable on it: contrast 4.5 to 1
_WIDE = 30  # pixels of a cell from which on it shows its number


class HeatMap(NamedTuple):
    """One heat map.

    Attributes:
      title: above it.
      rows, columns: their names; empty strings are allowed.
      values: of each row, one for each column; None for an empty cell.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]


def shade(value: float) -> tuple[str, bool]:
    """The colour of a cell, and whether it is so dark that its number has to be white."""
    t = min(max(value, 0.0), 1.0)
    red, green, blue = (round(a + (b - a) * t) for a, b in zip(LIGHT, DARK, strict=True))
    return f"rgb({red},{green},{blue})", t > _WHITE_FROM


def heat_maps(lines: Sequence[Sequence[HeatMap]], title: str, cell: int = 40) -> Html:
    """Heat maps in lines, all of the size of the largest.

    Args:
      lines: from top to bottom, each from left to right.
      title: title for screen readers.
      cell: side of a cell in pixels; its number is shown if it is at least 30.
    """
    maps = [each for line in lines for each in line]
    left = 12 + 7 * max((len(name) for each in maps for name in each.rows), default=0)
    named = any(name for each in maps for name in each.columns)
    top, gap = 22 + 18 * named, 10
    width = left + cell * max(len(each.columns) for each in maps) + gap
    height = top + cell * max(len(each.rows) for each in maps) + gap
    parts: list[Html] = []
    for y, line in enumerate(lines):
        for x, each in enumerate(line):
            parts += _heat_map(each, x * width, y * height, left, top, cell)
    return drawing(parts, title, width * max(map(len, lines)), height * len(lines))


def _heat_map(of: HeatMap, x: float, y: float, left: int, top: int, cell: int) -> list[Html]:
    parts = [text_at(x + left, y + 14, of.title, "name")]
    for j, name in enumerate(of.columns):
        parts.append(text_at(x + left + (j + 0.5) * cell, y + top - 5, name, "tick", "middle"))
    for i, (name, values) in enumerate(zip(of.rows, of.values, strict=True)):
        above = y + top + i * cell
        parts.append(text_at(x + left - 6, above + cell / 2 + 4, name, "tick", "end"))
        for j, value in enumerate(values):
            if value is None:
                continue
            fill, dark = shade(value)
            beside = x + left + j * cell
            parts.append(el("rect", x=f"{beside:.1f}", y=f"{above:.1f}", width=cell - 1, height=cell - 1, fill=fill))
            if cell >= _WIDE:
                words = number(round(value, 2) + 0.0, 2).replace("0.", ".", 1)  # no minus before a zero
                class_ = "tick light" if dark else "tick"
                parts.append(text_at(beside + cell / 2, above + cell / 2 + 4, words, class_, "middle"))
    return parts
