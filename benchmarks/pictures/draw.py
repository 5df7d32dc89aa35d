"""The pictures as SVG."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from benchmarks.pictures import activations
from benchmarks.pictures.activations import Real
from codi_jax.digit_world import DIGITS, LEADING
from codi_jax.report.heat import HeatMap, heat_maps
from codi_jax.report.markup import Html, el
from codi_jax.report.svg import as_file, drawing, text_at, unit_curves
from codi_jax.types import Array

LEVELS = (0.2, 0.5, 0.8, 0.95)  # of the heat maps
CURVE = tuple(k / 10 for k in range(11))
STRIP = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)
STYLE = ".text{stroke:#333}.image{stroke:#d55e00}.audio{stroke:#0a7}.video{stroke:#36c}"
SIDE = 64  # pixels of an image in a strip


def bridging(real: Real) -> str:
    """Cosines of prompts of one modality and text, by digit."""
    first, *others = real.names
    digits = [str(k) for k in range(len(DIGITS))]
    line = [
        HeatMap(f"{first} and {other}", digits, digits, activations.alignment(real, first, other, LEADING, len(digits)))
        for other in others
    ]
    return as_file(heat_maps([line], "mean cosine of prompts, by the digits of two samples", 20), STYLE)


def tokens(real: Real) -> str:
    """Cosines of V."""
    lines: list[list[HeatMap]] = [[], []]
    for level in LEVELS:
        for line, kind, values in zip(
            lines, ("one sample", "two samples"), activations.token_cosines(real, level), strict=True
        ):
            line.append(HeatMap(f"{kind}, {level:g} T", real.names, real.names, values.tolist()))
    return as_file(heat_maps(lines, "mean cosine of the tokens of V"), STYLE)


def partners(real: Real) -> str:
    """What each output reads from each other one."""
    line = []
    for level in LEVELS:
        found = [activations.shares(real, output, level) for output in real.names]
        values = [[of.get(name) for name in real.names] for of in found]
        line.append(HeatMap(f"noise level {level:g} T", real.names, real.names, values))
    return as_file(heat_maps([line], "share of the change by all others, rows: output, columns: whose V"), STYLE)


def strength(real: Real) -> str:
    """How much the others decide, over the noise level."""
    series = []
    for output in real.names:
        others = [name for name in real.names if name != output]
        points = [(level, activations.change(real, output, level, others, clean=True)) for level in CURVE]
        series.append((output, points, output))
    title = "change of the prediction where the clean others are of another sample, over the noise level"
    return as_file(unit_curves(series, title, 420, 240), STYLE)


def _pixels(image: np.ndarray, x: float, y: float) -> Html:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return el(
        "image",
        href=f"data:image/png;base64,{data}",
        x=x,
        y=y,
        width=SIDE,
        height=SIDE,
        style="image-rendering:pixelated",
    )


def strip(rows: Sequence[tuple[str, Sequence[np.ndarray]]], columns: Sequence[str], title: str) -> str:
    """Rows of images with names, below the names of columns."""
    left, top, step = 210, 24, SIDE + 6
    parts = [text_at(left + (j + 0.5) * step - 3, 16, name, "tick", "middle") for j, name in enumerate(columns)]
    for i, (name, images) in enumerate(rows):
        parts.append(text_at(0, top + i * step + SIDE / 2 + 4, name))
        parts += [_pixels(image, left + j * step, top + i * step) for j, image in enumerate(images)]
    return as_file(drawing(parts, title, left + step * len(columns), top + step * len(rows)), "")


def noise(real: Real, output: str, prompt: str, sample: int = 0) -> str:
    """One sample at some noise levels, and what the denoiser takes it for: alone, prompted, beside the others."""

    def beside(level: float, of_others: float) -> Array:
        tokens = {name: real.tokens(name, of_others) for name in real.names}
        return real.predicted(output, level, tokens=tokens)

    kinds = {
        "noisy latent, decoded": lambda level: real.noisy(output, level),
        "prediction, no prompt": lambda level: real.predicted(output, level),
        f"prediction, prompted by {prompt}": lambda level: real.predicted(output, level, prompt=real.prompts[prompt]),
        "prediction, beside the others": lambda level: beside(level, level),
        "prediction, beside clean others": lambda level: beside(level, 0.0),
    }
    rows = [
        (kind, [activations.decoded(real, output, make(level)[sample : sample + 1])[0] for level in STRIP])
        for kind, make in kinds.items()
    ]
    columns = [f"{level:g} T" for level in STRIP]
    return strip(rows, columns, "a real image at several noise levels, and what the denoiser predicts from it")
