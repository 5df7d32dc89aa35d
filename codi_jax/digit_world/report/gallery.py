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
from codi_jax.report.media import described

COLUMNS = 8

Readings = Mapping[str, np.ndarray]


def describe(readings: Readings, i: int) -> str:
    """The reading of sample i as text."""
    return ", ".join(FACTORS[f][r[i]] if r[i] != UNREAD else f"no {f}" for f, r in readings.items())


def shown(modality: Modality, value: np.ndarray, words: str) -> Html:
    """One value of a modality, with a text for those who do not see it."""
    return described(modality.html(value.item() if value.ndim == 0 else value), words)


def _media(modality: Modality, values: np.ndarray, what: str, readings: Readings) -> list[Html]:
    """Values [n], each with what it is and what is read from it."""
    link = ", read as " if what == "generated" else ": "
    read = [link + describe(readings, i) if readings else f", sample {i + 1}" for i in range(len(values))]
    return [shown(modality, value, f"{what} {modality.name}{words}") for value, words in zip(values, read, strict=True)]


def _mark(correct: bool, words: str) -> Html:
    return el("span", "✓ " if correct else "✗ ", words, class_="right" if correct else "wrong")


def is_right(source: str, real: Readings, read: Readings) -> dict[str, np.ndarray]:
    """factor -> whether it is that of the prompt [n], for the factors of an output that its prompt carries."""
    return {f: real[f] == read[f] for f in FACTORS if f in read and f in CARRIES[source] and f in real}


def _output(source: Modality, target: Modality, real: Readings, generated: Mapping[str, Any], columns: int) -> Any:
    """Outputs, and a line of their readings; factors that the prompt does not carry are in parentheses."""
    read = {f: generated["read"][f][:columns] for f in FACTORS if f in generated["read"]}
    right = is_right(source.name, {f: x[:columns] for f, x in real.items()}, read)
    prompted = {f: x for f, x in read.items() if f in right}
    free = {f: x for f, x in read.items() if f not in right}
    correct = np.logical_and.reduce(list(right.values()))
    values = generated["values"][:columns]
    words = [describe(prompted, i) + (f" ({describe(free, i)})" if free else "") for i in range(len(values))]
    marks = [_mark(bool(correct[i]), words[i]) for i in range(len(values))]
    return _media(target, values, "generated", read), marks


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
    outputs, marks = _output(source, target, real["factors"], generated, columns)
    lines = [_prompts(source, real, columns), ("generated", outputs), ("read as", marks)]
    if source.name != target.name:
        lines.append(("real sample", _real(target, real, columns, "real")))
    return figure(gallery(lines), caption)


def _real(modality: Modality, real: Mapping[str, Any], columns: int, what: str) -> list[Html]:
    shows = {f: x for f, x in real["factors"].items() if f in CARRIES[modality.name]}
    return _media(modality, real["values"][modality.name][:columns], what, shows)


def _prompts(source: Modality, real: Mapping[str, Any], columns: int) -> tuple[str, list[Html]]:
    return "prompt", _real(source, real, columns, "prompt")


def prompted(
    source: Modality,
    targets: Sequence[tuple[Modality, Mapping[str, Any]]],
    real: Mapping[str, Any],
    columns: int,
    caption: Any,
) -> Html:
    """Prompts of one modality, and what each output makes of them; see `direction`.

    Args:
      source: the modality of the prompts.
      targets: each output with its {"values": [n], "read": {factor: [n]}}.
      real: {"values": {modality: [n]}, "factors": {factor: [n]}}.
      columns: samples to show.
      caption: caption of the figure.
    """
    lines = [_prompts(source, real, columns)]
    for target, generated in targets:
        outputs, marks = _output(source, target, real["factors"], generated, columns)
        lines += [(target.name, outputs), ("read as", marks)]
    return figure(gallery(lines), caption)


def combination(
    inputs: Sequence[Modality],
    outputs: Sequence[Modality],
    prompts: Mapping[str, np.ndarray],
    generated: Mapping[str, np.ndarray],
    caption: Any,
    columns: int = COLUMNS,
) -> Html:
    """Prompts of several modalities and the outputs generated from them.

    Args:
      inputs, outputs: the modalities.
      prompts: modality -> [n].
      generated: modality -> [n].
      caption: caption of the figure.
      columns: samples to show.
    """
    columns = min(columns, len(generated[outputs[0].name]))
    lines = [(f"prompt: {m.name}", _media(m, prompts[m.name][:columns], "prompt", {})) for m in inputs]
    lines += [(m.name, _media(m, generated[m.name][:columns], "generated", {})) for m in outputs]
    return figure(gallery(lines), caption)


def together(
    outputs: Sequence[Modality],
    joint: Mapping[str, Any],
    alone: Mapping[str, Any],
    factor: str,
    caption: Any,
    columns: int = COLUMNS,
) -> Html:
    """One set of outputs from the null prompt: generated together, and each alone from the same noise.

    Args:
      outputs: the modalities.
      joint, alone: {"values": {modality: [n]}, "read": {modality: {factor: [n]}}}.
      factor: the factor in which they should agree.
      caption: caption of the figure.
      columns: samples to show.
    """
    parts = []
    for title, generated in (("Generated together", joint), ("Generated alone, from the same noise", alone)):
        readings = [generated["read"][m.name][factor] for m in outputs if factor in generated["read"][m.name]]
        lines: list[tuple[str, Sequence[Any]]] = [
            (m.name, _media(m, generated["values"][m.name][:columns], "generated", generated["read"][m.name]))
            for m in outputs
        ]
        agree = agrees(readings)[:columns]
        lines.append((f"same {factor}?", [_mark(bool(ok), "agree" if ok else "differ") for ok in agree]))
        parts += [el("h3", title), gallery(lines)]
    return figure(parts, caption)
