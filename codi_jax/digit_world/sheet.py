"""Writes samples of digit_world for viewing: a contact sheet, and audio and video files.

OUT/sheet.png       one row per sample: image, frames of the video, spectrogram of the audio, caption
OUT/00.wav, 00.mp4  audio and video of row 0, …
OUT/captions.txt
"""

from pathlib import Path

from codi_jax.config import from_dict
from codi_jax.digit_world.factors import CARRIES
from codi_jax.digit_world.speech import RATE
from codi_jax.digit_world.videos import RATE as FRAME_RATE
from codi_jax.digit_world.world import DigitWorld, WorldConfig
from codi_jax.media import files
from codi_jax.media.sheet import contact_sheet, pixels


def write(out: Path, split: str, n: int, seed: int) -> list[Path]:
    """Writes the first n samples of a split and returns the paths.

    Raises:
      ConfigError: unknown split, n below 1, or PyAV is not installed.
    """
    fields = {"split": split, "size": n, "seed": seed, "modalities": tuple(CARRIES), "truncate": 0.0, "merged": True}
    config = from_dict(WorldConfig, fields, "world")
    samples = DigitWorld(config).read(range(n))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / "sheet.png", out / "captions.txt"]
    contact_sheet(samples, RATE).save(paths[0])
    for i in range(n):
        paths += [out / f"{i:02d}.wav", out / f"{i:02d}.mp4"]
        files.write_wav(paths[-2], files.to_int16(samples["audio"][i]), RATE)
        files.write_video(paths[-1], pixels(samples["video"][i]), FRAME_RATE)
    paths[1].write_text("".join(f"{i:02d}  {caption}\n" for i, caption in enumerate(samples["text"]["caption"])))
    return paths
