"""Cells and tables in Markdown. A cell is the mean of several runs, with the range from the lowest to the highest."""

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

STAR = " ★"  # marks what was never trained


def number(value: float) -> str:
    """Three decimals, without the zero before the point: .981, 1.000, -.012."""
    text = re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")
    return ".000" if text == "-.000" else text


def cell(values: Iterable[float | None], mark: str = "") -> str:
    """The mean of one number of every run, as `.975 (.969–.981)`, or `.975` for one run.

    Args:
      values: of each run; the cell is empty if one of the runs has no value, since a mean of others would mislead.
      mark: is added to a cell that is not empty.
    """
    known = list(values)
    numbers = [value for value in known if value is not None]
    if not numbers or len(numbers) < len(known):
        return ""
    span = f" ({number(min(numbers))}–{number(max(numbers))})" if len(numbers) > 1 else ""
    return number(mean(numbers)) + span + mark


def average(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without empty rows and columns, the first column apart; "" if nothing is left."""
    filled = [row for row in rows if any(row[1:])]
    kept = [0, *(k for k in range(1, len(head)) if any(row[k] for row in filled))]
    if len(kept) == 1:
        return ""
    lines = [f"| {' | '.join(row[k] for k in kept)} |" for row in (head, *filled)]
    return "\n".join((lines[0], "|" + "---|" * len(kept), *lines[1:]))


def leaves(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], float]:
    """The numbers of nested mappings by path; intervals, texts and counts of samples are left out."""
    if isinstance(tree, Mapping):
        return {k: v for key, below in tree.items() for k, v in leaves(below, (*path, str(key))).items()}
    is_number = isinstance(tree, (int, float)) and not isinstance(tree, bool)
    return {path: float(tree)} if is_number and path and path[-1] not in ("n", "n_effective") else {}
