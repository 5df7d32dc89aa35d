"""Galleries of prompts, outputs and real samples, one column for each sample; a modality renders its values (`html`).

The samples shown are always the first ones, without selection.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codi_jax.digit_world import CARRIES, FACTORS
from codi_jax.metrics.agreement import UNREAD, agrees
from codi_jax.modalities import Modality
from codi_jax.report.markup import Html, el, figure, gallery

COLUMNS = 8

Readings = Mapping[str, np.ndarray]


def describe(readings: Readings, i: int) -> str:
    """The reading of sample i as text."""
    return ", ".join(FACTORS[f][r[i]] if r[i] != UNREAD else f"no {f}" for f, r in readings.items())


def _media(modality: Modality, values: np.ndarray) -> list[Html]:
    return [Html(modality.html(value.item() if value.ndim == 0 else value)) for value in values[:COLUMNS]]


def _mark(correct: bool, words: str) -> Html:
    return el("span", "✓ " if correct else "✗ ", words, class_="right" if correct else "wrong")


def direction(
    source: Modality, target: Modality, real: Mapping[str, Any], generated: Mapping[str, Any], caption: Any
) -> Html:
    """One direction: prompts, outputs with their readings, and the real samples that the prompts come from.

    An output is marked as correct if all factors that the prompt carries are; the other factors are in parentheses.

    Args:
      source, target: the modalities.
      real: {"values": {modality: [n]}, "factors": {factor: [n]}}.
      generated: {"values": [n], "read": {factor: [n]}}.
      caption: caption of the figure.
    """
    columns = min(COLUMNS, len(generated["values"]))
    read = {f: generated["read"][f] for f in FACTORS if f in generated["read"]}
    prompted = {f: x for f, x in read.items() if f in CARRIES[source.name] and f in real["factors"]}
    free = {f: x for f, x in read.items() if f not in prompted}
    correct = np.logical_and.reduce([real["factors"][f] == x for f, x in prompted.items()])
    words = [describe(prompted, i) + (f" ({describe(free, i)})" if free else "") for i in range(columns)]
    lines = [
        ("prompt", _media(source, real["values"][source.name])),
        ("generated", _media(target, generated["values"])),
        ("read as", [_mark(bool(correct[i]), words[i]) for i in range(columns)]),
    ]
    if source.name != target.name:
        lines.append(("real sample", _media(target, real["values"][target.name])))
    return figure(gallery(lines), caption)


def combination(
    inputs: Sequence[Modality],
    outputs: Sequence[Modality],
    prompts: Mapping[str, np.ndarray],
    generated: Mapping[str, np.ndarray],
    caption: Any,
) -> Html:
    """Prompts of several modalities and the outputs generated from them.

    Args:
      inputs, outputs: the modalities.
      prompts: modality -> [n].
      generated: modality -> [n].
      caption: caption of the figure.
    """
    columns = min(COLUMNS, len(generated[outputs[0].name]))
    lines = [(f"prompt: {m.name}", _media(m, prompts[m.name][:columns])) for m in inputs]
    return figure(gallery(lines + [(m.name, _media(m, generated[m.name])) for m in outputs]), caption)


def together(
    outputs: Sequence[Modality], joint: Mapping[str, Any], alone: Mapping[str, Any], factor: str, caption: Any
) -> Html:
    """One set of outputs from the null prompt: generated together, and each alone from the same noise.

    Args:
      outputs: the modalities.
      joint, alone: {"values": {modality: [n]}, "read": {modality: {factor: [n]}}}.
      factor: the factor in which they should agree.
      caption: caption of the figure.
    """
    parts = []
    for title, generated in (("Generated together", joint), ("Generated alone, from the same noise", alone)):
        readings = [generated["read"][m.name][factor] for m in outputs if factor in generated["read"][m.name]]
        lines: list[tuple[str, Sequence[Any]]] = [(m.name, _media(m, generated["values"][m.name])) for m in outputs]
        agree = agrees(readings)[:COLUMNS]
        lines.append((f"same {factor}?", [_mark(bool(ok), "agree" if ok else "differ") for ok in agree]))
        parts += [el("h4", title), gallery(lines)]
    return figure(parts, caption)
