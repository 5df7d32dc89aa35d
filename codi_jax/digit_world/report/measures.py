"""Sections of the report on synchrony, diversity within a digit, and memorisation.

Each is absent if the evaluation did not measure it, as in files of earlier versions.
"""

from collections.abc import Mapping
from typing import Any

from codi_jax.digit_world.benchmark import sync
from codi_jax.digit_world.report.numbers import spaced, span
from codi_jax.report.markup import Html, el, figure, number, rows

Section = tuple[str, str, str, Html]  # name, title, lead, content


def _spaced(title: str) -> str:
    return spaced(title).replace("independent", "alone")


def sync_table(cells: Mapping[str, Any]) -> Html:
    """Offsets of all pairs."""
    names = {
        **{"joint": "together", "independent": "alone", "codec": "after the codec"},
        **{"prompted": "with its prompt", "ceiling": "real, with its prompt"},
    }
    body = [
        [
            *(_spaced(title), names.get(kind, kind)),
            *(number(row["same_frame"]), span(row.get("same_frame_interval"))),
            *(number(row["adjacent_frame"]), number(row["offset_ms"], 0), number(row["unread"])),
        ]
        for title, kind, row in sync.lines(cells)
    ]
    caption = (
        "Share of samples whose audio clicks in the frame in which the video bounces, or in that or a neighbouring one "
        "(unread samples count as neither), the mean absolute offset in milliseconds of those read, and the share "
        "unread. Shuffled: audio of other samples. Chance: all pairs."
    )
    head = ["outputs", "", "same frame", "95 % interval", "or neighbour", "offset, ms", "unread"]
    return figure(rows(head, body), caption, "Offsets of audio and video")


def diversity_table(modalities: Mapping[str, Any]) -> Html:
    """Diversity of all outputs."""
    body = [
        [name, _spaced(title), number(row["diversity"]), number(row["distance"]), number(row["real"]), row["n"]]
        for name, cells in modalities.items()
        for title, row in cells.items()
    ]
    caption = (
        "Root mean square distance between two outputs that show the same digit, of pixels or of log-mel spectrograms, "
        "and the same of real samples; diversity is their ratio. Of text: the share of distinct captions."
    )
    return figure(rows(["output", "generated", "diversity", "distance", "real", "n"], body), caption, "Diversity")


def memory_table(modalities: Mapping[str, Any]) -> Html:
    """Distances of all outputs to the nearest training sample, and the share of captions that occur in training."""
    body, captions = [], []
    for name, cell in modalities.items():
        for title, row in cell["outputs"].items():
            if "verbatim" in row:
                captions.append([_spaced(title), number(row["verbatim"]), span(row["interval"]), row["n"]])
                continue
            numbers = (number(row[key]) for key in ("median", "ratio", "near_1", "near_5"))
            body.append([name, _spaced(title), *numbers, f"{cell['training']:,}"])
    tables = []
    if body:
        head = ["output", "generated", "median", "of real", "nearer than 1 %", "nearer than 5 %", "training samples"]
        tables.append(rows(head, body))
    if captions:
        tables.append(rows(["captions", "in training", "95 % interval", "n"], captions))
    caption = (
        "Distance to the nearest training sample: its median, that median over the one of real test samples, and the "
        "share of outputs nearer than 1 % and 5 % of those. Fresh: new samples with the glyphs and speakers of "
        "training, which a perfect model is like. Captions: the share that occurs in training word by word; test "
        "captions (real) have other wordings, validation captions the same."
    )
    return figure(el("div", tables, class_="row"), caption, "Distance to the training samples")


def sections(metrics: Mapping[str, Any]) -> list[Section]:
    """The sections on what was measured."""
    out: list[Section] = []
    if "sets" in metrics.get("sync", {}):
        lead = (
            "A video bounces in one frame, in the middle of which its audio clicks. Both are measured without a "
            "network. Without a prompt they can be in step only by attending to one another."
        )
        out.append(("in-step", "In step", lead, sync_table(metrics["sync"])))
    if metrics.get("diversity"):
        lead = (
            "Whether outputs of one digit differ from one another as much as real samples do: 1 is as much, 0 a copy."
        )
        out.append(("diversity", "Diversity within a digit", lead, diversity_table(metrics["diversity"])))
    if metrics.get("memorisation"):
        lead = "Whether outputs are nearer to the training samples than real samples are that were not trained on."
        out.append(("memorisation", "Memorisation", lead, memory_table(metrics["memorisation"])))
    return out
