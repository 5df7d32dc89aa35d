"""Valid files of every suffix that is read, and their damage, for `benchmarks.fuzz`."""

import importlib
import importlib.util
import io
import json
import random
import tarfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

NUMBERS = (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\x00\x01", b"\xff\xff\xff\x7f")


def _encoded(container: str, codec: str, audio: str | None, **options: str) -> bytes:
    """One second of moving noise, with a tone if an audio codec is given."""
    import av

    rng = np.random.default_rng(0)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=25 if container == "mpeg" else 8, options=options)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        audio_stream: Any = out.add_stream(audio, rate=48_000) if audio else None
        for k in range(25 if container == "mpeg" else 8):
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
    stream.bit_rate = 64_000
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
    image = (
        Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.fromarray(noise).convert(mode)
    )
    image.save(file, format, **options)
    return file.getvalue()


def tar(members: dict[str, bytes], format: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as out:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _pgm() -> bytes:
    """Of 16 bits."""
    values = np.random.default_rng(1).integers(0, 65_536, (40, 60)).astype(">u2")
    return b"P5\n60 40\n65535\n" + values.tobytes()


def _heic() -> bytes:
    importlib.import_module("pillow_heif").register_heif_opener()
    return _image_file("HEIF")


def _save(format: str, **options: Any) -> Callable[[], bytes]:
    return lambda: _image_file(format, **options)


def _audio(container: str, codec: str, rate: int = 48_000) -> Callable[[], bytes]:
    return lambda: _audio_file(container, codec, rate)


def _video(container: str, codec: str, audio: str | None, **options: str) -> Callable[[], bytes]:
    return lambda: _encoded(container, codec, audio, **options)


def table() -> list[dict[str, Any]]:
    """The rows of a manifest of five images."""
    return [{"text": f"caption {i}", "image": f"{i}.png", "start": i, "duration": 1.5} for i in range(5)]


def _separated(delimiter: str) -> bytes:
    lines = [delimiter.join(table()[0]), *(delimiter.join(map(str, row.values())) for row in table())]
    return ("\n".join(lines) + "\n").encode()


def _parquet() -> bytes:
    """Rows as `datasets` writes them, images inside."""
    import pyarrow
    from pyarrow import parquet

    image, file = {"bytes": _image_file("png"), "path": "x.png"}, io.BytesIO()
    rows = pyarrow.Table.from_pylist([{**row, "image": image} for row in table()])
    parquet.write_table(rows, file, row_group_size=2)
    return file.getvalue()


def _shard(prefix: str, format: int) -> bytes:
    members = {}
    for i in range(3):
        members[f"{prefix}{i}.jpg"], members[f"{prefix}{i}.txt"] = _image_file("jpeg"), f"caption {i}".encode()
        members[f"{prefix}{i}.json"] = json.dumps({"caption": f"other {i}"}).encode()
    return tar(members, format)


_FAST = {"preset": "ultrafast"}
IMAGES = {
    "png": _save("png"), "jpg": _save("jpeg", exif=Image.Exif()), "jpeg": _save("jpeg", mode="CMYK"),
    "webp": _save("webp"), "bmp": _save("bmp"), "tiff": _save("tiff", compression="tiff_lzw"), "tif": _save("tiff"),
    "gif": _save("gif", mode="P"), "avif": _save("avif"), "jp2": _save("jpeg2000"),
    "pgm": _pgm, "ppm": _save("ppm"), "pnm": _save("ppm", mode="L"),
}  # fmt: skip
LEFT_OUT = () if importlib.util.find_spec("pillow_heif") else ("heic", "heif")  # without the library that reads them
IMAGES |= {name: _heic for name in ("heic", "heif") if name not in LEFT_OUT}
AUDIO = {
    "wav": _audio("wav", "pcm_s16le", 8000), "flac": _audio("flac", "flac"), "mp3": _audio("mp3", "libmp3lame"),
    "ogg": _audio("ogg", "libopus"), "m4a": _audio("ipod", "aac"), "opus": _audio("opus", "libopus"),
    "oga": _audio("oga", "libopus"), "aac": _audio("adts", "aac"), "aiff": _audio("aiff", "pcm_s16be"),
    "aif": _audio("aiff", "pcm_s24be"), "wma": _audio("asf", "wmav2", 44_100), "ac3": _audio("ac3", "ac3"),
}  # fmt: skip
VIDEO = {
    "mp4": _video("mp4", "libx264", "aac", **_FAST), "webm": _video("webm", "libvpx-vp9", None, cpu_used="8"),
    "mkv": _video("matroska", "libx264", "pcm_s16le", **_FAST), "mov": _video("mov", "libx264", "pcm_s16le", **_FAST),
    "avi": _video("avi", "mpeg4", "libmp3lame"), "m4v": _video("mp4", "mpeg4", None),
    "mpg": _video("mpeg", "mpeg1video", "mp2"), "mpeg": _video("mpeg", "mpeg2video", None),
    "ts": _video("mpegts", "libx264", "aac", **_FAST), "flv": _video("flv", "flv", None),
    "wmv": _video("asf", "wmv2", None), "ogv": _video("ogg", "libvpx", "libopus"),
    "3gp": _video("3gp", "mpeg4", None),
}  # fmt: skip
TEXT = {
    "txt": lambda: "a caption, ü".encode() * 3,
    "json": lambda: json.dumps({"caption": "a ü", "n": [1, 2]}).encode(),
}
TARS = {
    "pax.tar": lambda: _shard("", tarfile.PAX_FORMAT),
    "gnu.tar": lambda: _shard("folder/" * 20, tarfile.GNU_FORMAT),
}
TABLES = {
    "table.csv": lambda: _separated(","), "table.tsv": lambda: _separated("\t"),
    "table.json": lambda: json.dumps(table()).encode(),
    "table.jsonl": lambda: "".join(json.dumps(row) + "\n" for row in table()).encode(), "table.parquet": _parquet,
}  # fmt: skip


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
