"""The summary of a source, and its contact sheet."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from codi_jax import cli
from codi_jax.config import ConfigError
from codi_jax.data.inspection import inspect
from codi_jax.media import files
from codi_jax.media.sheet import GAP, SIDE, TEXT, contact_sheet, lines, spectrogram

RATE = 8000


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Ten rows: one image file is missing and one audio file is an image."""
    root = tmp_path_factory.mktemp("inspected")
    rows = []
    for i in range(10):
        Image.new("RGB", (40 + 10 * i, 60), (20 * i, 0, 0)).save(root / f"{i}.png")
        files.write_wav(root / f"{i}.wav", np.zeros(800 * (i + 1), np.int16), RATE)
        rows.append({"text": "a b c" if i % 2 else "a b", "image": f"{i}.png", "audio": f"{i}.wav"})
    rows[3]["image"], rows[7]["audio"] = "absent.png", "7.png"
    (root / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    media = {"modalities": ("text", "image", "audio"), "size": 24, "samples": RATE, "sample_rate": RATE}
    return {"name": "manifest", "path": str(root / "table.jsonl"), "media": media}


def test_damaged_shards_and_files_of_other_kinds_are_named(tmp_path):
    for k in range(2):
        with tarfile.open(tmp_path / f"{k}.tar", "w") as tar:
            for name in ("1.txt", "1.cls", "2.txt"):
                info = tarfile.TarInfo(name)
                info.size = 5
                tar.addfile(info, io.BytesIO(b"a cat"))
    content = (tmp_path / "1.tar").read_bytes()
    (tmp_path / "1.tar").write_bytes(content[: 4 * 512])
    source = {"name": "webdataset", "shards": str(tmp_path / "*.tar"), "media": {"modalities": ("text",)}}
    lines = inspect({**source, "faults": {"max_bad_fraction": 0.5}}, "x", 10).splitlines()
    assert lines[0].startswith("3 samples")
    assert f"  {tmp_path}/1.tar: cut at byte 2048" in lines
    assert "  files of other kinds are passed over: cls 2" in lines


def test_the_summary(table, tmp_path):
    lines = inspect(table, "sources.mine", 100, tmp_path / "out").splitlines()
    assert lines[0] == "10 samples; read 10, of which 2 cannot be used"
    for line in (
        "  image: uint8 [24, 24, 3]",
        "  audio: int16 [8000]",
        "  words per caption: 2 to 3, median 2",
        "  different captions: 2 of 8",
        "  image file, width: 40 to 130, median 85",
        "  audio file, seconds: 0.1 to 1, median 0.55",
        "  audio file, samples a second: 8000 to 8000, median 8000",
    ):
        assert line in lines, (line, lines)
    assert "cannot be used: " in "\n".join(lines) and "missing 1" in "\n".join(lines) and "kind 1" in "\n".join(lines)
    assert any(line.startswith("  3: ") and "absent.png: no such image" in line for line in lines)
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.size == (2 * (SIDE + GAP) + TEXT, 8 * (SIDE + GAP))
        assert sheet.getpixel((SIDE // 2, SIDE + GAP + SIDE // 2)) == (20, 0, 0)  # row 1


def test_samples_are_evenly_spaced(table):
    assert inspect(table, "sources.mine", 2).startswith("10 samples; read 2, of which 0 cannot be used")


def test_a_source_without_files(tmp_path):
    text = inspect({"name": "digit_world", "size": 20, "modalities": ("text", "image")}, "x", 5, tmp_path)
    assert text.startswith("20 samples; read 5, of which 0 cannot be used") and "image: float32 [32, 32, 3]" in text
    with pytest.raises(ConfigError, match="--n: expected a positive number"):
        inspect({"name": "digit_world"}, "x", 0)


def test_a_spectrogram_shows_high_frequencies_at_the_top(tmp_path):
    t = np.arange(RATE) / RATE
    low, high = (
        spectrogram(np.sin(2 * np.pi * f * t).astype(np.float32), RATE)[..., 0].mean(1).argmax() for f in (200, 3000)
    )
    assert high < low
    sheet = contact_sheet({"audio": np.zeros((3, RATE), np.int16)}, RATE)
    assert sheet.size == (SIDE + GAP, 3 * (SIDE + GAP))


def test_the_channels_of_a_sequence_are_lines():
    ramp = np.linspace(-1, 1, 64, dtype=np.float32)
    image = lines(np.stack([ramp, -ramp], axis=1))
    assert (image.shape, image.dtype) == ((SIDE, SIDE, 3), np.uint8)
    rising, falling = ((image[..., 0] == grey) for grey in (0, 160))
    assert rising[-1, 0] and rising[0, -1] and falling[0, 0] and falling[-1, -1]
    assert lines(np.zeros((1, 1))).shape == image.shape
    sheet = contact_sheet({"sensor": np.zeros((3, 64, 2)), "image": np.zeros((3, 8, 8, 3))}, RATE)
    assert sheet.size == (2 * (SIDE + GAP), 3 * (SIDE + GAP))


def test_the_command(capsys, tmp_path):
    cli.main(["data", "inspect", "--config=demo:tiny", "--source=pairs", "--n=3", f"--out={tmp_path}"])
    text = capsys.readouterr().out
    assert text.startswith("pairs: 64 samples; read 3") and (tmp_path / "pairs" / "sheet.png").exists()
    with pytest.raises(SystemExit):
        cli.main(["data", "inspect", "--config=demo:tiny", "--source=smell"])
    assert "no source 'smell' in this config; it has" in capsys.readouterr().err
