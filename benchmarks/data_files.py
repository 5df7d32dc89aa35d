"""The media files of `benchmarks.data`: made from a seed, in every layout that a reader takes.

Images are JPEGs of 320×240, audio WAV files of 10.24 s at 32 kHz, videos mp4 files of 24 frames of 256×256 at 12 frames
per second. Pixels and samples are smooth noise, which compresses about as well as photographs do.
"""

import contextlib
import csv
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from codi_jax.media import files
from codi_jax.media.image_files import read_image
from codi_jax.media.images import crop_resize

SUFFIX = {"text": "txt", "image": "jpg", "audio": "wav", "video": "mp4"}
SETTINGS = {"size": 256, "frames": 8, "rate": 4.0, "samples": 163_840, "sample_rate": 16_000}


def pixels(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] of few large and many small structures."""
    out = np.zeros((height, width, 3), np.float32)
    for side, strength in ((4, 96), (16, 48), (64, 12)):
        small = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
        out += strength / 255 * np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return np.clip(out, 0, 255).astype(np.uint8)


def content(modality: str, rng: np.random.Generator, path: Path) -> bytes:
    """The bytes of a file of a modality; `path` is written and read."""
    if modality == "text":
        return " ".join(f"word{n}" for n in rng.integers(0, 10_000, 12)).encode()
    if modality == "image":
        file = io.BytesIO()
        Image.fromarray(pixels(rng, 240, 320)).save(file, "JPEG", quality=90)
        return file.getvalue()
    if modality == "audio":
        time = np.arange(327_680) / 32_000
        tones = sum(np.sin(2 * np.pi * f * time + f) for f in rng.uniform(100, 4000, 4))
        file = io.BytesIO()
        files.write_wav(file, files.to_int16((tones + rng.standard_normal(len(time))) / 8), 32_000)
        return file.getvalue()
    one, other = (pixels(rng, 256, 256).astype(np.float32) for _ in range(2))
    shares = np.linspace(0, 1, 24, dtype=np.float32)
    files.write_video(path, np.stack([(s * one + (1 - s) * other).astype(np.uint8) for s in shares]), 12.0)
    return path.read_bytes()


def make(folder: Path, modality: str, count: int, shards: int = 4) -> None:
    """Writes files of a modality into a folder: a table of files, tars, and the files themselves.

    Args:
      folder: gets `table.csv`, `KEY.SUFFIX` and `{00000..}.tar`.
      modality: text, image, audio or video.
      count: how many.
      shards: how many tars.
    """
    folder.mkdir(parents=True)
    rng, suffix = np.random.default_rng(0), SUFFIX[modality]
    with contextlib.ExitStack() as stack:
        tars = [stack.enter_context(tarfile.open(folder / f"{k:05d}.tar", "w")) for k in range(shards)]
        table = csv.writer(stack.enter_context(open(folder / "table.csv", "w", newline="")))
        table.writerow([modality])
        for i in range(count):
            path = folder / f"{i:06d}.{suffix}"
            data = content(modality, rng, path)
            path.write_bytes(data)
            table.writerow([data.decode() if modality == "text" else path.name])
            info = tarfile.TarInfo(path.name)
            info.size = len(data)
            tars[i * shards // count].addfile(info, io.BytesIO(data))


def decode(modality: str, data: "bytes | str | Path") -> np.ndarray | str:
    """A file of a modality as a sample has it, with the functions that our readers call; text is given as it is."""
    if modality == "text":
        return " ".join((data.decode() if isinstance(data, bytes) else str(data)).split())
    source = files.MediaFile("sample", data) if isinstance(data, bytes) else files.MediaFile(str(data))
    if modality == "image":
        return crop_resize(read_image(source), SETTINGS["size"])
    if modality == "audio":
        return files.to_int16(files.read_audio(source, SETTINGS["samples"], SETTINGS["sample_rate"]))
    return files.read_video(source, SETTINGS["frames"], SETTINGS["rate"], SETTINGS["size"])
