"""Contact sheets: a row per sample, with its image, video frames, spectrogram, lines of a sequence, and caption."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from codi_jax.media.mel import MelConfig, log_mel

SIDE, GAP, TEXT = 96, 6, 360  # pixels: side of an image, gap between images, width of a caption
FRAMES = 8  # maximum number of frames shown of a video


def pixels(image: np.ndarray) -> np.ndarray:
    """Converts float in [-1, 1] to uint8; uint8 is returned unchanged."""
    return image if image.dtype == np.uint8 else (np.clip((image + 1) / 2, 0, 1) * 255).astype(np.uint8)


def spectrogram(waveform: np.ndarray, rate: int) -> np.ndarray:
    """The log-mel spectrogram of int16 or float [N] as a grey image uint8 [64, W, 3], low frequencies at the bottom."""
    wave = waveform.astype(np.float32) / (1 << 15) if waveform.dtype == np.int16 else waveform
    hop = rate // 62 // 2 * 2 or 2
    mel = log_mel(wave[None], MelConfig(rate, 4 * hop, hop, 64, 50.0, rate / 2))[0]
    grey = (255 * (mel - mel.min()) / max(float(np.ptp(mel)), 1e-6)).astype(np.uint8)
    return np.repeat(grey.T[::-1, :, None], 3, axis=-1)


def captions_of(sample: Mapping[str, Any]) -> Iterator[Any]:
    """The values of `caption` in the parts of a sample, or of stacked samples."""
    return (part["caption"] for part in sample.values() if isinstance(part, Mapping) and "caption" in part)


def _column(media: np.ndarray) -> int:
    """The sort key of a column: images, then videos, then audio, then sequences."""
    return {4: 0, 5: 1, 2: 2, 3: 3}[media.ndim]


def lines(sequence: np.ndarray) -> np.ndarray:
    """The channels of a sequence [L, C] over its steps as grey lines on white: uint8 [96, 96, 3]."""
    low, high = float(sequence.min()), float(sequence.max())
    y = (SIDE - 1) * (high - sequence) / max(high - low, 1e-6)
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw, x = ImageDraw.Draw(image), np.linspace(0, SIDE - 1, len(sequence))
    for channel, heights in enumerate(y.T):
        grey = 160 * channel // max(len(y.T) - 1, 1)
        draw.line(list(zip(x.tolist(), heights.tolist(), strict=True)), fill=(grey, grey, grey))
    return np.asarray(image)


def _render(one: np.ndarray, rate: int) -> list[np.ndarray]:
    """The images that show one value: an image, frames of a video, or the spectrogram of audio."""
    if one.ndim == 1:
        return [spectrogram(one, rate)]
    if one.ndim == 2:
        return [lines(one)]
    if one.ndim == 3:
        return [pixels(one)]
    return [pixels(one[k]) for k in np.linspace(0, len(one) - 1, min(len(one), FRAMES)).round().astype(int)]


def contact_sheet(samples: Mapping[str, Any], rate: int) -> Image.Image:
    """Draws the contact sheet of stacked samples.

    Args:
      samples: {"caption": [n]} in any part, images [n, H, W, 3], videos [n, T, H, W, 3], audio [n, N] and
        sequences [n, L, C].
      rate: samples per second of the audio.
    """
    captions = next(captions_of(samples), None)
    media = sorted((x for x in samples.values() if not isinstance(x, Mapping)), key=_column)
    n = len(media[0] if captions is None else captions)
    rows: list[list[np.ndarray]] = [[] for _ in range(n)]
    for i, row in enumerate(rows):
        for x in media:
            row += _render(x[i], rate)
    columns, text = max(map(len, rows)), 0 if captions is None else TEXT
    sheet = Image.new("RGB", ((SIDE + GAP) * columns + text, (SIDE + GAP) * n), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, row in enumerate(rows):
        top = i * (SIDE + GAP)
        for k, image in enumerate(row):
            how = Image.Resampling.NEAREST if max(image.shape[:2]) < SIDE else Image.Resampling.BICUBIC
            sheet.paste(Image.fromarray(image).resize((SIDE, SIDE), how), (k * (SIDE + GAP), top))
        if captions is not None:
            draw.text((columns * (SIDE + GAP) + GAP, top + SIDE // 2 - 8), f"{i:02d}  {captions[i]}", "black", font)
    return sheet
