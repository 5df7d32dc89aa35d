"""Reads damaged media files and tars as a run does: the result is a sample of the right shape or a named error.

    python -m tests.slow.fuzz --n=10000

Each is a valid file, damaged in one to four ways from a seed of its number, so that a single one can be reproduced.
Prints counts by kind of file and outcome, the slowest read and the memory used.
"""

import argparse
import collections
import io
import json
import random
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.data import decoder_pool
from codi_jax.data.decoded_source import MediaConfig, decode_record
from codi_jax.data.decoder_pool import SubprocessDecoder
from codi_jax.data.manifest import Manifest, ManifestConfig
from codi_jax.data.webdataset import WebDataset, WebDatasetConfig
from codi_jax.media.files import MediaError, MediaFile

MEDIA = MediaConfig(("image",), size=16, frames=4, rate=4.0, samples=4000, sample_rate=8000, timeout_s=20.0)
REASONS = {
    "missing",
    "empty",
    "large",
    "kind",
    "cut",
    "damaged",
    "value",
    "numbers",
}  # why a damaged file may be refused
NUMBERS = (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\x00\x01", b"\xff\xff\xff\x7f")


def _encoded(container: str, codec: str, audio: str | None, **options: str) -> bytes:
    """One second of moving noise, with a tone if an audio codec is given."""
    import av

    rng = np.random.default_rng(0)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=8, options=options)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        audio_stream = out.add_stream(audio, rate=48_000) if audio else None
        for k in range(8):
            image = np.roll(rng.integers(0, 255, (32, 48, 3), np.uint8), 3 * k, axis=1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
        if audio_stream is not None:
            _tone(out, audio_stream)
    return file.getvalue()


def _tone(out: Any, stream: Any, rate: int = 48_000) -> None:
    import av

    wave = np.sin(np.arange(rate) * 0.05).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(stream.format.name, "mono", stream.rate, frame_size=stream.frame_size or None)
    for item in (frame, None):
        for part in resampler.resample(item):
            out.mux(stream.encode(part))
    out.mux(stream.encode(None))


def _audio_file(container: str, codec: str, rate: int = 48_000) -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        _tone(out, out.add_stream(codec, rate=rate, layout="mono"))
    return file.getvalue()


def _image_file(format: str, mode: str = "RGB", **options: Any) -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, format, **options)
    return file.getvalue()


def _tar(members: dict[str, bytes], format: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def originals() -> dict[str, bytes]:
    """Valid files by suffix."""
    shard = {}
    for i in range(3):
        shard[f"{i}.jpg"], shard[f"{i}.txt"] = _image_file("jpeg"), f"caption {i}".encode()
        shard[f"{i}.json"] = json.dumps({"caption": f"other {i}"}).encode()
    long = {f"{'folder/' * 20}{name}": data for name, data in shard.items()}
    table = [{"text": f"caption {i}", "image": f"{i}.png", "start": i, "duration": 1.5} for i in range(5)]
    rows = "".join(f"{','.join(map(str, row.values()))}\n" for row in table)
    return {
        "png": _image_file("png"),
        "palette.png": _image_file("png", "P"),
        "grey.png": _image_file("png", "LA"),
        "jpg": _image_file("jpeg", exif=Image.Exif()),
        "cmyk.jpg": _image_file("jpeg", "CMYK"),
        "webp": _image_file("webp"),
        "gif": _image_file("gif", "P"),
        "bmp": _image_file("bmp"),
        "tiff": _image_file("tiff", compression="tiff_lzw"),
        "wav": _audio_file("wav", "pcm_s16le", 8000),
        "float.wav": _audio_file("wav", "pcm_f32le", 8000),
        "flac": _audio_file("flac", "flac"),
        "mp3": _audio_file("mp3", "libmp3lame"),
        "ogg": _audio_file("ogg", "libopus"),
        "mp4": _encoded("mp4", "libx264", "aac", preset="ultrafast"),
        "mkv": _encoded("matroska", "libx264", "pcm_s16le", preset="ultrafast"),
        "webm": _encoded("webm", "libvpx-vp9", None, cpu_used="8"),
        "avi": _encoded("avi", "mpeg4", "libmp3lame"),
        "ts": _encoded("mpegts", "libx264", "aac", preset="ultrafast"),
        "tar": _tar(shard, tarfile.PAX_FORMAT),
        "gnu.tar": _tar(long, tarfile.GNU_FORMAT),
        "csv": b"text,image,start,duration\n" + rows.encode(),
        "jsonl": "".join(json.dumps(row) + "\n" for row in table).encode(),
        "json": json.dumps(table).encode(),
    }


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The file, damaged in one to four ways."""
    out = bytearray(data)

    def cut() -> None:
        del out[rng.randrange(len(out) + 1) :]

    def flip() -> None:
        for _ in range(rng.choice((1, 1, 3, 30))):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)

    def number() -> None:  # may hit a length, a width or an offset; most of these are near the beginning
        at = rng.randrange(min(len(out), rng.choice((64, 600, len(out)))))
        out[at : at + 4] = rng.choice(NUMBERS)

    def remove() -> None:
        at = rng.randrange(len(out))
        del out[at : at + rng.randrange(1, 400)]

    def repeat() -> None:
        at, count = rng.randrange(len(out)), rng.randrange(1, 400)
        out[at:at] = out[at : at + count] * rng.choice((1, 1, 20))

    def noise() -> None:
        at = rng.randrange(len(out))
        out[at : at + rng.randrange(1, 200)] = rng.randbytes(rng.randrange(1, 200))

    def swap() -> None:
        a, b = (rng.randrange(len(out)) for _ in range(2))
        out[a : a + 16], out[b : b + 16] = out[b : b + 16], out[a : a + 16]

    for _ in range(rng.choice((1, 1, 2, 4))):
        if out:
            rng.choice((cut, flip, flip, number, number, remove, repeat, noise, swap))()
    return bytes(out)


def _checked(value: np.ndarray, shape: tuple[int, ...]) -> None:
    assert value.shape == shape and np.isfinite(value).all(), f"{value.dtype} {value.shape}, not {shape}"


class Reader:
    """Reads a damaged file in every way that a run may read it."""

    def __init__(self, folder: Path):
        self._folder, self._decoder = folder, SubprocessDecoder(MEDIA.timeout_s)
        self.ways: dict[str, Callable[[str, bytes], None]] = {"tar": self._tar, "csv": self._table}
        self.ways |= dict.fromkeys(("jsonl", "json"), self._table)
        self.ways |= dict.fromkeys(("png", "jpg", "webp", "gif", "bmp", "tiff"), self._read_image)
        self.ways |= dict.fromkeys(("wav", "flac", "mp3", "ogg"), self._read_audio)
        self.ways |= dict.fromkeys(("mp4", "mkv", "webm", "avi", "ts"), self._read_video)

    def close(self) -> None:
        self._decoder.close()

    def _read_image(self, name: str, data: bytes) -> None:
        record = {"image": MediaFile(name, data)}
        _checked(decode_record(record, MEDIA, (0,), self._decoder)["image"], (16, 16, 3))

    def _read_audio(self, name: str, data: bytes, start: float = 0.0) -> None:
        medium = MediaFile(name, data, start, None if not start else 0.25)
        _checked(self._decoder.read_audio(medium, MEDIA.samples, MEDIA.sample_rate), (MEDIA.samples,))

    def _read_video(self, name: str, data: bytes) -> None:
        for start in (0.0, 0.5):
            medium = MediaFile(name, data, start)
            _checked(self._decoder.read_video(medium, MEDIA.frames, MEDIA.rate, MEDIA.size), (4, 16, 16, 3))
        if not name.endswith("webm"):
            self._read_audio(name, data, 0.5)

    def _records(self, records: Any, media: MediaConfig) -> None:
        last_error: MediaError | None = None
        for index in range(len(records)):
            try:
                _checked(decode_record(records[index], media, (0,))["image"], (16, 16, 3))
            except MediaError as error:
                last_error = error
        if last_error is not None:
            raise last_error

    def _tar(self, name: str, data: bytes) -> None:
        path = self._folder / "x.tar"
        path.write_bytes(data)
        media = MediaConfig(("text", "image"), size=16)
        self._records(WebDataset(WebDatasetConfig(str(path), media)), media)

    def _table(self, name: str, data: bytes) -> None:
        path = self._folder / f"x.{name.rpartition('.')[2]}"
        path.write_bytes(data)
        media = MediaConfig(("text", "image"), size=16)
        columns = {"start": "start", "duration": "duration"}
        self._records(Manifest(ManifestConfig(str(path), media, columns=columns)), media)


def _outcome(read: Callable[[str, bytes], None], name: str, data: bytes) -> str:
    try:
        read(name, data)
    except MediaError as error:
        assert "\n" not in str(error).strip(), f"an error of several lines: {error}"
        return error.reason
    except ConfigError as error:  # of a tar or a table as a whole
        assert "\n" not in str(error).strip(), f"an error of several lines: {error}"
        return "no source"
    return "read"


def _mebibytes(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def main(n: int = 10_000, seed: int = 0, only: int | None = None) -> dict[str, collections.Counter]:
    """Prints the table; returns kind of file -> outcome -> count."""
    counts: dict[str, collections.Counter] = {}
    slowest, begun = (0.0, ""), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="codi-jax-fuzz-") as folder:
        reader, valid = Reader(Path(folder)), originals()
        for name, data in valid.items():
            Path(folder, name).write_bytes(data)
        for i in range(5):
            Path(folder, f"{i}.png").write_bytes(valid["png"])
        for name, data in valid.items():
            outcome = _outcome(reader.ways[name.rpartition(".")[2]], name, data)
            assert outcome == "read", f"the valid {name}: {outcome}"
        before = _mebibytes(resource.RUSAGE_SELF)
        for i in range(n) if only is None else [only]:
            name = list(valid)[i % len(valid)]
            data = damaged(valid[name], random.Random(f"{seed}/{i}"))
            since = time.perf_counter()
            try:
                outcome = _outcome(reader.ways[name.rpartition(".")[2]], name, data)
            except Exception:
                print(f"number {i} of seed {seed}, a damaged {name}: reproduce it with --only={i}", flush=True)
                raise
            counts.setdefault(name, collections.Counter())[outcome] += 1
            slowest = max(slowest, (time.perf_counter() - since, f"{name}, number {i}"))
            if outcome in ("crash", "hang") or only is not None:
                print(f"number {i}, a damaged {name}: {outcome}", flush=True)
            if (i + 1) % 1000 == 0:
                print(f"{i + 1} of {n}, {time.perf_counter() - begun:.0f} s", flush=True)
        grown = _mebibytes(resource.RUSAGE_SELF) - before
        reader.close()
    outcomes = sorted({outcome for counter in counts.values() for outcome in counter})
    print(f"{'':12s}" + "".join(f"{outcome:>12s}" for outcome in outcomes))
    for name, counter in [*counts.items(), ("all", sum(counts.values(), collections.Counter()))]:
        print(f"{name:12s}" + "".join(f"{counter[outcome]:12d}" for outcome in outcomes))
    print(
        f"{sum(sum(c.values()) for c in counts.values())} files in {time.perf_counter() - begun:.0f} s; the "
        f"slowest took {slowest[0]:.2f} s ({slowest[1]}); this process grew by {grown:.0f} MiB, decoders took up to "
        f"{_mebibytes(resource.RUSAGE_CHILDREN):.0f} MiB of the {decoder_pool.MEMORY >> 20} MiB they may"
    )
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="number of damaged files (10000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (0)")
    parser.add_argument("--only", type=int, help="read only the file with this number")
    arguments = parser.parse_args()
    counts = main(arguments.n, arguments.seed, arguments.only)
    sys.exit(any(outcomes[bad] for outcomes in counts.values() for bad in ("crash", "hang")))
