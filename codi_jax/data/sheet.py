"""A contact sheet: a row a sample, with its picture, frames of its clip, a spectrogram of its sound, its caption."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from codi_jax.data.mel import MelConfig, log_mel

SIDE, GAP, TEXT, FRAMES = 96, 6, 360, 8  # pixels of a picture, between two, of a caption; frames of a clip at most


def pixels(picture: np.ndarray) -> np.ndarray:
    """uint8 as it is; float in [-1, 1] as uint8."""
    return picture if picture.dtype == np.uint8 else np.uint8(np.clip((picture + 1) / 2, 0, 1) * 255)


def spectrogram(sound: np.ndarray, rate: int) -> np.ndarray:
    """Grey uint8 [64, W, 3] of int16 or float [N], time to the right, low frequencies below."""
    wave = sound.astype(np.float32) / (1 << 15) if sound.dtype == np.int16 else sound
    hop = rate // 62 // 2 * 2 or 2
    mel = log_mel(wave[None], MelConfig(rate, 4 * hop, hop, 64, 50.0, rate / 2))[0]
    grey = np.uint8(255 * (mel - mel.min()) / max(float(np.ptp(mel)), 1e-6))
    return np.repeat(grey.T[::-1, :, None], 3, axis=-1)


def captions_of(sample: Mapping[str, Any]) -> Iterator[Any]:
    """What stands under `caption` in parts of a sample, or of stacked ones."""
    return (part["caption"] for part in sample.values() if isinstance(part, Mapping) and "caption" in part)


def _column(media: np.ndarray) -> int:
    """Pictures first, then clips, then sounds."""
    return {4: 0, 5: 1, 2: 2}[media.ndim]


def _drawn(one: np.ndarray, rate: int) -> list[np.ndarray]:
    """A picture, some frames of a clip, or the spectrogram of a sound."""
    if one.ndim == 1:
        return [spectrogram(one, rate)]
    if one.ndim == 3:
        return [pixels(one)]
    return [pixels(one[k]) for k in np.linspace(0, len(one) - 1, min(len(one), FRAMES)).round().astype(int)]


def contact_sheet(samples: Mapping[str, Any], rate: int) -> Image.Image:
    """The sheet of stacked samples: {"caption"} [n], pictures [n, H, W, 3], clips [n, T, H, W, 3], sounds [n, N].

    `rate`: samples a second of the sounds.
    """
    captions = next(captions_of(samples), None)
    media = sorted((given for given in samples.values() if not isinstance(given, Mapping)), key=_column)
    n = len(media[0] if captions is None else captions)
    rows: list[list[np.ndarray]] = [[] for _ in range(n)]
    for i, row in enumerate(rows):
        for given in media:
            row += _drawn(given[i], rate)
    columns, text = max(map(len, rows)), 0 if captions is None else TEXT
    sheet = Image.new("RGB", ((SIDE + GAP) * columns + text, (SIDE + GAP) * n), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, row in enumerate(rows):
        top = i * (SIDE + GAP)
        for k, picture in enumerate(row):
            how = Image.Resampling.NEAREST if max(picture.shape[:2]) < SIDE else Image.Resampling.BICUBIC
            sheet.paste(Image.fromarray(picture).resize((SIDE, SIDE), how), (k * (SIDE + GAP), top))
        if text:
            draw.text((columns * (SIDE + GAP) + GAP, top + SIDE // 2 - 8), f"{i:02d}  {captions[i]}", "black", font)
    return sheet
