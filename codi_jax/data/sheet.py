"""A contact sheet: a row a sample, with its picture, frames of its clip, a spectrogram of its sound, its caption."""

from collections.abc import Mapping
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


def contact_sheet(samples: Mapping[str, Any], rate: int) -> Image.Image:
    """The sheet of stacked samples, which hold some of text, image, audio (`rate` a second) and video."""
    n = len(samples["text"]["caption"] if "text" in samples else next(iter(samples.values())))
    rows: list[list[np.ndarray]] = [[] for _ in range(n)]
    for i, row in enumerate(rows):
        if "image" in samples:
            row.append(pixels(samples["image"][i]))
        if "video" in samples:
            clip = samples["video"][i]
            row += [pixels(clip[k]) for k in np.linspace(0, len(clip) - 1, min(len(clip), FRAMES)).round().astype(int)]
        if "audio" in samples:
            row.append(spectrogram(samples["audio"][i], rate))
    columns, text = max(map(len, rows)), TEXT if "text" in samples else 0
    sheet = Image.new("RGB", ((SIDE + GAP) * columns + text, (SIDE + GAP) * n), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, row in enumerate(rows):
        top = i * (SIDE + GAP)
        for k, picture in enumerate(row):
            how = Image.Resampling.NEAREST if max(picture.shape[:2]) < SIDE else Image.Resampling.BICUBIC
            sheet.paste(Image.fromarray(picture).resize((SIDE, SIDE), how), (k * (SIDE + GAP), top))
        if text:
            caption = f"{i:02d}  {samples['text']['caption'][i]}"
            draw.text((columns * (SIDE + GAP) + GAP, top + SIDE // 2 - 8), caption, "black", font)
    return sheet
