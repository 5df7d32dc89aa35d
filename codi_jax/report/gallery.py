"""What was generated, shown by each modality's own element: prompts, outputs and real samples, one column a sample.

The samples shown are the first ones, whatever they look like.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codi_jax.data.digit_world import CARRIES, FACTORS
from codi_jax.evaluate.agreement import UNREAD, agrees
from codi_jax.modalities import Modality
from codi_jax.report.markup import Html, el, figure

COLUMNS = 8

Readings = Mapping[str, np.ndarray]


def describe(readings: Readings, i: int) -> str:
    """What was read off sample i, in words."""
    return ", ".join(FACTORS[f][r[i]] if r[i] != UNREAD else f"no {f}" for f, r in readings.items())


def _media(modality: Modality, values: np.ndarray) -> list[Html]:
    return [Html(modality.html(value.item() if value.ndim == 0 else value)) for value in values[:COLUMNS]]


def _mark(right: bool, words: str) -> Html:
    return el("span", "✓ " if right else "✗ ", words, class_="right" if right else "wrong")


def _table(lines: Sequence[tuple[str, Sequence[Any]]]) -> Html:
    return el(
        "table",
        [
            el("tr", el("th", name, scope="row"), [el("td", el("div", x, class_="media")) for x in cells])
            for name, cells in lines
        ],
        class_="gallery",
    )


def direction(
    source: Modality, target: Modality, real: Mapping[str, Any], made: Mapping[str, Any], caption: Any
) -> Html:
    """One direction: prompts, what was made of them and how it reads, and the real samples that the prompts belong to.

    An output is right if it shows what the prompt says; what the prompt leaves open stands in brackets.

    Args:
      source, target: the modalities.
      real: {"values": {modality: [n]}, "factors": {factor: [n]}}.
      made: {"values": [n], "read": {factor: [n]}}.
      caption: of the figure.
    """
    shown = min(COLUMNS, len(made["values"]))
    read = {f: made["read"][f] for f in FACTORS if f in made["read"]}
    asked = {f: x for f, x in read.items() if f in CARRIES[source.name] and f in real["factors"]}
    free = {f: x for f, x in read.items() if f not in asked}
    right = np.logical_and.reduce([real["factors"][f] == x for f, x in asked.items()])
    words = [describe(asked, i) + (f" ({describe(free, i)})" if free else "") for i in range(shown)]
    lines = [
        ("prompt", _media(source, real["values"][source.name])),
        ("generated", _media(target, made["values"])),
        ("read as", [_mark(bool(right[i]), words[i]) for i in range(shown)]),
    ]
    if source.name != target.name:
        lines.append(("real sample", _media(target, real["values"][target.name])))
    return figure(_table(lines), caption)


def combination(
    inputs: Sequence[Modality],
    outputs: Sequence[Modality],
    real: Mapping[str, np.ndarray],
    made: Mapping[str, np.ndarray],
    caption: Any,
) -> Html:
    """Several prompts and what was made of them together.

    Args:
      inputs, outputs: the modalities.
      real: modality -> [n], the prompts.
      made: modality -> [n].
      caption: of the figure.
    """
    shown = min(COLUMNS, len(made[outputs[0].name]))
    lines = [(f"prompt: {m.name}", _media(m, real[m.name][:shown])) for m in inputs]
    return figure(_table(lines + [(m.name, _media(m, made[m.name])) for m in outputs]), caption)


def together(
    outputs: Sequence[Modality], joint: Mapping[str, Any], alone: Mapping[str, Any], factor: str, caption: Any
) -> Html:
    """One set of outputs under the open prompt: generated together, and each alone from the same noise.

    Args:
      outputs: the modalities.
      joint, alone: {"values": {modality: [n]}, "read": {modality: {factor: [n]}}}.
      factor: in which they should agree.
      caption: of the figure.
    """
    parts = []
    for title, made in (("Generated together", joint), ("The same noise, each alone", alone)):
        readings = [made["read"][m.name][factor] for m in outputs if factor in made["read"][m.name]]
        lines: list[tuple[str, Sequence[Any]]] = [(m.name, _media(m, made["values"][m.name])) for m in outputs]
        same = agrees(readings)[:COLUMNS]
        lines.append((f"same {factor}?", [_mark(bool(ok), "agree" if ok else "differ") for ok in same]))
        parts += [el("h4", title), _table(lines)]
    return figure(parts, caption)
