"""A look at the world: one contact sheet, and its sounds and clips as files.

OUT/sheet.png       a row a sample: picture, frames of the clip, spectrogram of the sound, caption
OUT/00.wav, 00.mp4  the sound and the clip of row 0, …
OUT/captions.txt
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from codi_jax.config import view
from codi_jax.data import files
from codi_jax.data.digit_world.clips import RATE as FRAME_RATE
from codi_jax.data.digit_world.factors import CARRIES
from codi_jax.data.digit_world.pictures import CANVAS
from codi_jax.data.digit_world.speech import RATE
from codi_jax.data.digit_world.world import DigitWorld, WorldConfig
from codi_jax.data.mel import MelConfig, log_mel

_ZOOM, _GAP, _TEXT = 3, 6, 360  # pixels: of the sheet per pixel of the world, between pictures, of a caption


def _pixels(picture: np.ndarray) -> np.ndarray:
    return np.uint8(np.clip((picture + 1) / 2, 0, 1) * 255)


def _spectrogram(sound: np.ndarray) -> np.ndarray:
    """Grey uint8 [64, 64, 3], time to the right, low frequencies below."""
    mel = log_mel(sound[None], MelConfig(RATE, 512, 128, 64, 50.0, RATE / 2), frames=64)[0]
    grey = np.uint8(255 * (mel - mel.min()) / max(float(np.ptp(mel)), 1e-6))
    return np.repeat(grey.T[::-1, :, None], 3, axis=-1)


def write(out: Path, split: str, n: int, seed: int) -> list[Path]:
    """Writes the first n samples of a split and returns the paths.

    Raises:
      ConfigError: no such split, n below 1, or PyAV is missing.
    """
    given = {"split": split, "size": n, "seed": seed, "modalities": tuple(CARRIES), "truncate": 0.0, "merged": True}
    config = view(WorldConfig, given, "world")
    samples = DigitWorld(config).read(range(n))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    side, frames = CANVAS * _ZOOM, samples["video"].shape[1]
    sheet = Image.new("RGB", ((side + _GAP) * (frames + 2) + _TEXT, (side + _GAP) * n), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    paths = [out / "sheet.png", out / "captions.txt"]
    for i in range(n):
        top = i * (side + _GAP)
        row = [_pixels(samples["image"][i]), *_pixels(samples["video"][i]), _spectrogram(samples["audio"][i])]
        for k, pixels in enumerate(row):
            picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (k * (side + _GAP), top))
        caption = str(samples["text"]["caption"][i])
        draw.text(((frames + 2) * (side + _GAP) + _GAP, top + side // 2 - 8), f"{i:02d}  {caption}", "black", font)
        paths += [out / f"{i:02d}.wav", out / f"{i:02d}.mp4"]
        files.write_wav(paths[-2], files.to_int16(samples["audio"][i]), RATE)
        files.write_video(paths[-1], _pixels(samples["video"][i]), FRAME_RATE)
    sheet.save(paths[0])
    paths[1].write_text("".join(f"{i:02d}  {caption}\n" for i, caption in enumerate(samples["text"]["caption"])))
    return paths
