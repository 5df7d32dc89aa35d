"""Manifests: every format, the contents of a row, and errors."""

import json

import numpy as np
import pytest
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.data.decoded_source import DecodedSource, MediaConfig, truncate_caption
from codi_jax.data.manifest import Manifest, ManifestConfig
from codi_jax.data.source import make_source, read_batch
from codi_jax.media import files
from codi_jax.media.files import MediaError

RATE = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four samples of all modalities, with different shades and waveforms."""
    root = tmp_path_factory.mktemp("folder")
    for i in range(4):
        shade = np.full((40, 60, 3), 50 * i + 20, np.uint8)
        Image.fromarray(shade).save(root / f"{i}.png")
        files.write_wav(root / f"{i}.wav", np.full(RATE, 1000 * (i + 1), np.int16), RATE)
        files.write_video(root / f"{i}.mp4", np.stack([shade[:40, :40] // 2, shade[:40, :40]]).repeat(4, 0), 8.0)
    return root


MEDIA = {"modalities": ("text", "image", "audio", "video"), "size": 16, "frames": 4, "rate": 4.0, "samples": RATE}
MEDIA["sample_rate"] = RATE


def rows(**more):
    return [
        {"caption": f"shade {i}", "image": f"{i}.png", "audio": f"{i}.wav", "film": f"{i}.mp4", **more}
        for i in range(4)
    ]


def write(path, table):
    if path.suffix in (".csv", ".tsv"):
        separator = "," if path.suffix == ".csv" else "\t"
        lines = [separator.join(table[0]), *(separator.join(map(str, row.values())) for row in table)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
    elif path.suffix == ".json":
        path.write_text(json.dumps(table))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(table), path)
    return path


def config(path, columns=None, **media):
    columns = {"text": "caption", "video": "film"} if columns is None else columns
    return {"name": "manifest", "path": str(path), "columns": columns, "media": {**MEDIA, **media}}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_format_gives_the_same_samples(folder, suffix):
    source = make_source(config(write(folder / f"table.{suffix}", rows())))
    assert len(source) == 4
    batch = read_batch(source, [2, 0])
    assert batch["text"]["caption"].tolist() == ["shade 2", "shade 0"]
    assert batch["image"].shape == (2, 16, 16, 3) and (batch["image"][:, 8, 8, 0] == [120, 20]).all()
    assert batch["audio"].dtype == np.int16 and (batch["audio"][:, 500] == [3000, 1000]).all()
    assert batch["video"].shape == (2, 4, 16, 16, 3)
    # The video has four frames of half the brightness and then four of the image.
    assert np.abs(batch["video"][0, :, 8, 8, 0].astype(int) - [60, 60, 120, 120]).max() < 8


def test_intervals_of_files_and_lists_of_captions(folder):
    table = [{**row, "caption": json.dumps(["one", "two"]), "from": 0.5, "seconds": 0.25} for row in rows()]
    columns = {"text": "caption", "video": "film", "start": "from", "duration": "seconds"}
    source = make_source(config(write(folder / "parts.jsonl", table), columns))
    assert {source[i]["text"]["caption"] for i in range(4)} == {"one", "two"}
    sample = source[1]
    assert (sample["audio"][: RATE // 4] == 2000).all() and not sample["audio"][RATE // 4 :].any()
    assert np.abs(sample["video"][:, 8, 8, 0].astype(int) - 70).max() < 8


@pytest.mark.parametrize(
    "part",
    [
        {"start": "0.5", "duration": ".25"},
        {"start": "00:00.5", "end": "0:00:00.75"},
        {"start": "PT0.5S", "end": "PT0.75S"},
    ],
)
def test_times_are_seconds_clocks_or_iso_8601(folder, part):
    table = [{**row, **part} for row in rows()]
    columns = {"text": "caption", "video": "film", **{name: name for name in part}}
    sample = make_source(config(write(folder / "times.csv", table), columns))[1]
    assert (sample["audio"][: RATE // 4] == 2000).all() and not sample["audio"][RATE // 4 :].any()
    assert np.abs(sample["video"][:, 8, 8, 0].astype(int) - 70).max() < 8


def test_columns_of_times_are_not_read_unless_they_are_mapped(folder):
    """As in WebVid, whose `duration` is the length of the whole video."""
    table = [{**row, "duration": "PT00H00M11S", "start": "unknown", "end": ""} for row in rows()]
    sample = make_source(config(write(folder / "webvid.csv", table)))[1]
    assert (sample["audio"] == 2000).all()


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_caption_may_hold_any_separator_of_lines(folder, suffix, separator):
    caption = f"a cat{separator}on a mat"
    table = [{**row, "caption": caption} for row in rows()]
    path = folder / f"separators.{suffix}"
    write(path, table)
    if suffix.startswith("json"):  # as it is, not escaped
        content = path.read_text().replace(json.dumps(caption), json.dumps(caption, ensure_ascii=ord(separator) < 32))
        path.write_text(content, encoding="utf-8", newline="")
    source = make_source(config(path, modalities=("text",)))
    assert len(source) == 4 and source[0]["text"]["caption"] == "a cat on a mat"


def test_quoted_captions_of_several_lines_and_lines_that_end_with_carriage_returns(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'caption,film\r\n"a cat\r\non a mat",0.mp4\r\n"a ""dog""",1.mp4\r\n')
    (tmp_path / "x.jsonl").write_bytes(b'{"caption": "a cat on a mat"}\r\n\r\n{"caption": "a \\"dog\\""}\r\n')
    for name in ("x.csv", "x.jsonl"):
        source = make_source(config(tmp_path / name, modalities=("text",)))
        assert [source[i]["text"]["caption"] for i in range(2)] == ["a cat on a mat", 'a "dog"']


def test_truncated_prompts_and_middle_frames(folder):
    table = [{**row, "caption": "a b c d e f"} for row in rows()]
    path = write(folder / "rules.jsonl", table)
    source = make_source(config(path, truncate=0.5, middle_frame=True, modalities=("text", "image", "video")))
    prompts = [source[i]["text"]["prompt"] for i in range(4)]
    assert all(source[i]["text"]["caption"] == "a b c d e f" for i in range(4))
    assert all("a b c d e f".startswith(prompt) for prompt in prompts)
    assert [source[i]["text"]["prompt"] for i in range(4)] == prompts
    np.testing.assert_array_equal(source[3]["image"], source[3]["video"][2])
    assert {truncate_caption("a b c", u) for u in np.linspace(0, 0.999, 50)} == {"a", "a b"}
    assert truncate_caption("a", 0.9) == "a"


def test_random_crops_are_a_function_of_the_sample(folder):
    path = write(folder / "crops.jsonl", rows())
    wide = np.zeros((16, 64, 3), np.uint8)
    wide[:, :, 0] = np.arange(64)
    Image.fromarray(wide).save(folder / "wide.png")
    write(path, [{**row, "image": "wide.png"} for row in rows()])
    source = make_source(config(path, crop="random", modalities=("image",)))
    crops = [source[i]["image"] for i in range(4)]
    assert len({crop.tobytes() for crop in crops}) > 1
    assert all(np.array_equal(source[i]["image"], crop) for i, crop in enumerate(crops))
    views = make_source(config(path, crop="random", modalities=("text", "image"), views=3))
    assert len(views) == 12
    assert [views[i]["text"]["caption"] for i in range(12)] == [f"shade {i}" for i in range(4)] * 3
    assert all(np.array_equal(views[i]["image"], crop) for i, crop in enumerate(crops))
    assert len({views[i]["image"].tobytes() for i in (1, 5, 9)}) > 1


def test_files_of_other_modalities_are_not_read(folder):
    table = [{**row, "image": "absent.png"} for row in rows()]
    sample = make_source(config(write(folder / "some.jsonl", table), modalities=("text", "audio")))[0]
    assert set(sample) == {"text", "audio"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": "absent.png"}, "missing"),
        ({"image": ""}, "missing"),
        ({"image": None}, "missing"),
        ({"image": 3}, "value"),
        ({"image": "0.wav"}, "kind"),
        ({"audio": "0.png"}, "kind"),
        ({"caption": "  "}, "empty"),
        ({"caption": []}, "missing"),
        ({"caption": [3]}, "value"),
        ({"caption": "x" * 20_000}, "large"),
        ({"start": "soon"}, "value"),
        ({"start": "PT"}, "value"),
        ({"start": "nan"}, "value"),
        ({"start": -1}, "value"),
        ({"start": 100}, "empty"),
        ({"duration": 0}, "value"),
        ({"start": 1, "end": "0:01"}, "value"),
    ],
)
def test_a_row_that_cannot_be_used(folder, change, reason):
    path = write(folder / "bad.jsonl", [{**row, **change} for row in rows()])
    part = {name: name for name in ("start", "duration", "end") if name in change}
    columns = {"text": "caption", "video": "film", **part}
    records = Manifest(ManifestConfig(str(path), MediaConfig(**MEDIA), columns=columns))
    with pytest.raises(MediaError) as error:
        DecodedSource(records, records_config(path))[0]
    assert error.value.reason == reason and "\n" not in str(error.value)


def records_config(path):
    return MediaConfig(**MEDIA)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.csv", None, "no such file"),
        ("table.txt", b"", "expected a file that ends in .csv, .tsv, .jsonl, .json, .parquet, or a folder"),
        ("empty.csv", b"", "the table has no rows"),
        ("columns.csv", b"caption,file\na,b\n", "no column 'image'; columns are caption, file"),
        ("ragged.csv", b"caption,image\na,b,c\n", "row 2 has a different number of columns"),
        ("short.csv", b"caption,image\na\n", "row 2 has a different number of columns"),
        ("latin.csv", "caption,image\ngröße,b\n".encode("latin-1"), "not UTF-8"),
        ("bad.jsonl", b'{"caption": "a"}\n{oh\n', "line 2: not JSON"),
        ("deep.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("list.json", b'{"caption": "a"}', "not a list of objects"),
        ("deep.json", b"[" * 100_000, "not JSON"),
        ("bad.parquet", b"PAR1 and no more", "not a readable parquet file"),
    ],
)
def test_a_bad_table(tmp_path, name, content, says):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as error:
        make_source(config(tmp_path / name, {"text": "caption"}, modalities=("text", "image")))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_bad_config(folder):
    path = write(folder / "table.jsonl", rows())
    for changes, says in (
        ({"columns": {"smell": "x"}}, "unknown field smell; fields are text, image"),
        ({"modalities": ("text", "smell")}, "got smell"),
        ({"modalities": ()}, "got none"),
        ({"size": 0}, "must be positive"),
        ({"truncate": 2.0}, "expected a probability, got 2.0"),
        ({"middle_frame": True, "modalities": ("image",)}, "modalities must contain video"),
    ):
        with pytest.raises(ConfigError, match=says):
            make_source(config(path, **changes))
