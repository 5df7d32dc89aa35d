"""The eleven generation tasks of the CoDi paper: those of its table of data sets, and video captions.

Each has a row: what the small model does, read by judges from elsewhere, and the command that measures a model of full
size by the metric of the paper.
"""

from collections.abc import Sequence

from benchmarks.claims.cells import cell, markdown
from benchmarks.claims.runs import DIGIT, Run

# Prompts, outputs -> the task of `codi_jax.evaluation.suite.paper`, and the metric of the paper.
TASKS = {
    ("text", "image"): ("text_to_image.coco", "FID"),
    ("text", "video"): ("text_to_video.msrvtt", "CLIPSIM"),
    ("text", "audio"): ("text_to_audio.audiocaps", "FAD"),
    ("image", "text"): ("image_to_text.coco", "BLEU-4, METEOR, CIDEr"),
    ("audio", "text"): ("audio_to_text.audiocaps", "CIDEr, SPICE"),
    ("video", "text"): ("video_to_text.msrvtt", "BLEU-4, METEOR, CIDEr"),
    ("image", "video"): ("image_to_video.msrvtt", "FVD"),
    ("image", "audio"): ("image_to_audio.msrvtt", "FAD"),
    ("text", "text+image"): ("text_to_text+image.coco", "SIM"),
    ("text", "text+audio"): ("text_to_text+audio.audiocaps", "SIM"),
    ("image", "audio+video"): ("image_to_audio+video.msrvtt", "SIM"),
}


def table(used: Sequence[Run]) -> str:
    """The rows, with means over runs; "" without runs."""

    def of(prompts: str, outputs: str, number: str) -> str:
        if "+" in outputs:
            return cell([run.at("combinations", "cells", f"{prompts}->{outputs}") for run in used]) if used else ""
        keys = ("judges", "outside", "matrix", f"{prompts}->{outputs}", DIGIT, number)
        return cell([run.at(*keys) for run in used])

    rows = [
        [
            f"{prompts} → {outputs.replace('+', ' + ')}",
            of(prompts, outputs, "accuracy") + (" ¹" if "+" in outputs else ""),
            "" if "+" in outputs else of(prompts, outputs, "ceiling"),
            metric,
            f"`--tasks={task}`",
        ]
        for (prompts, outputs), (task, metric) in TASKS.items()
    ]
    if not used:
        return ""
    head = ["task", "small model: the prompt's digit", "ceiling", "the paper's metric", "`evaluate --suite=paper`"]
    return markdown(head, rows) + "\n\n¹ The packaged judges, 32 samples: all outputs show the digit."
