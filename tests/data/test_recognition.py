"""What is recognized beyond the layouts of test_layouts.py, and what is not."""

import json

import pytest

from codi_jax import cli
from codi_jax.config import ConfigError
from codi_jax.data.recognition import recognize
from codi_jax.data.source import make_source
from tests.data.layouts import jpeg, sound, tar, write


def test_videos_with_a_soundtrack_have_audio_too(tmp_path):
    import av
    import numpy as np

    with av.open(tmp_path / "1.mp4", "w") as container:
        streams = container.add_stream("libx264", rate=4), container.add_stream("aac", rate=16_000, layout="mono")
        streams[0].width = streams[0].height = 64
        frames = [av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8)) for _ in range(4)]
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), format="s16", layout="mono")
        tone.sample_rate = 16_000
        packets = [streams[0].encode(f) for f in (*frames, None)] + [streams[1].encode(f) for f in (tone, None)]
        for packet in (packet for several in packets for packet in several):
            container.mux(packet)
    (tmp_path / "1.txt").write_text("nothing")
    assert recognize(str(tmp_path)).config["media"]["modalities"] == ("text", "audio", "video")


def test_captions_in_json_under_another_key(tmp_path):
    tar(tmp_path / "0.tar", {"1.jpg": jpeg(1), "1.json": b'{"title": "a title", "width": 3}'})
    assert recognize(str(tmp_path / "0.tar")).config["caption"] == "title"
    write(tmp_path / "files" / "1.jpg", jpeg(1))
    write(tmp_path / "files" / "1.json", {"prompt": "a prompt"})
    found = recognize(str(tmp_path / "files")).config
    assert found["columns"] == {"text": "json/prompt"} and make_source(found)[0]["text"]["caption"] == "a prompt"


def test_files_of_img2dataset_beside_its_metadata(tmp_path):
    """Of --output_format=files: 00000/000000001.jpg beside 00000.parquet and 00000_stats.json."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for k in range(2):
        for i in range(2):
            write(tmp_path / f"{k:05d}" / f"{k:05d}{i:04d}.jpg", jpeg(i))
            write(tmp_path / f"{k:05d}" / f"{k:05d}{i:04d}.txt", f"a cat {k} {i}")
        write(tmp_path / f"{k:05d}_stats.json", {"count": 2})
        rows = [{"key": f"{k:05d}{i:04d}", "caption": "another"} for i in range(2)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{k:05d}.parquet")
    found = recognize(str(tmp_path)).config
    assert found == {"name": "manifest", "path": str(tmp_path), "media": {"modalities": ("text", "image")}}
    assert len(make_source(found)) == 4


def test_a_header_that_looks_like_suffixes(tmp_path):
    write(tmp_path / "x.csv", [{"jpg": f"{i}.jpg", "txt": f"a cat {i}"} for i in range(3)])
    for i in range(3):
        write(tmp_path / f"{i}.jpg", jpeg(i))
    assert recognize(str(tmp_path / "x.csv")).config["columns"] == {"text": "txt", "image": "jpg"}


def test_columns_of_unknown_names_and_files_in_another_folder(tmp_path):
    rows = [{"what": f"a thing {i}, red", "snd": f"snd{i:03d}.wav", "pic": f"pics/{i:05d}.jpg"} for i in range(3)]
    write(tmp_path / "lists" / "mine.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    for i in range(3):
        write(tmp_path / "media" / "sounds" / f"snd{i:03d}.wav", sound(i))
        write(tmp_path / "media" / "pics" / f"{i:05d}.jpg", jpeg(i))
    found = recognize(str(tmp_path / "lists" / "mine.jsonl")).config
    assert found["columns"] == {"text": "what", "image": "pic", "audio": "sounds/{snd}"}
    source = make_source(found).source
    assert [source.record(i)["text"] for i in range(3)] == [row["what"] for row in rows]
    assert all(source[i]["audio"][100] == 1000 * (i + 1) for i in range(3))


def test_a_value_that_a_guessed_template_cannot_write(tmp_path):
    """Files are in a neighbouring folder, and one row has no number."""
    rows = [{"id": f"name{i}", "start": i, "caption": f"a thing {i}"} for i in range(4)]
    write(tmp_path / "lists" / "mine.csv", [*rows, {"id": "name5", "start": "soon", "caption": "a thing"}])
    for i in range(4):
        write(tmp_path / "media" / f"name{i}_{i:06d}.jpg", jpeg(i))
    found = recognize(str(tmp_path / "lists" / "mine.csv")).config
    assert found["columns"] == {"text": "caption", "image": "{id}_{start:06d}.jpg"}


def test_a_table_whose_files_are_elsewhere(tmp_path, capsys):
    """Files of the same short names in a neighbouring folder are not taken for its files."""
    write(tmp_path / "a" / "mine.csv", [{"image": f"{i}.png", "caption": f"a thing {i}"} for i in range(3)])
    for i in range(3):
        write(tmp_path / "b" / f"{i}.png", jpeg(i))
    cli.main(["data", "inspect", str(tmp_path / "a" / "mine.csv")])
    out = capsys.readouterr().out
    assert "3 samples; read 3, of which 3 cannot be used" in out and "cannot be used: missing 3" in out
    assert "'columns': {'text': 'caption'}" in out and "'modalities': ('text', 'image')" in out


def test_damaged_files_are_named(tmp_path, capsys):
    for i in range(4):
        write(tmp_path / "mine" / f"{i}.jpg", jpeg(i) if i else b"not an image")
    cli.main(["data", "inspect", "--n=4", f"--out={tmp_path / 'out'}", str(tmp_path / "mine")])
    out = capsys.readouterr().out
    assert "4 samples; read 4, of which 1 cannot be used" in out and "0.jpg: not an image of a known format" in out
    assert (tmp_path / "out" / "mine" / "sheet.png").is_file()


@pytest.mark.parametrize(
    ("files", "path", "says"),
    [
        ({}, "absent", "absent: no such file or folder"),
        ({}, "", "no tars, tables or media files in this folder (no files)"),
        ({"a.xyz": b""}, "", "no tars, tables or media files in this folder (xyz 1)"),
        ({"a.zip": b""}, "a.zip", "expected a file that ends in .csv, .tsv, .jsonl, .json, .parquet, or a folder"),
        ({"a.csv": "x\n1\n", "b.csv": "x\n1\n"}, "", "2 tables (a.csv, b.csv); give one of them"),
        (
            {"a.csv": "x,y\nb,c\n"},
            "a.csv",
            "no column of captions, of media files, or that names files; columns are",
        ),
        ({"a.csv": "x,y\n"}, "a.csv", "the table has no rows"),
        ({"a.json": b"[" * 9999}, "a.json", "not JSON"),
        ({"a.json": {"a": [{"id": 1}, 3], "b": [{"id": 1, "x": 2}]}}, "a.json", "columns are id, x"),
        ({"a.json": {"a": [{"id": 1}, 3], "b": 3}}, "a.json", "a.json: not a list of objects"),
        ({"a.parquet": b"PAR1"}, "", "a.parquet: not a readable parquet file"),
        ({"a.tar": b"not a tar"}, "a.tar", "no captions and no media files (no files) not a tar"),
        ({"a.jsonl": b"\xff"}, "a.jsonl", "not UTF-8"),
    ],
)
def test_what_is_not_recognized(tmp_path, files, path, says):
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(ConfigError) as error:
        recognize(str(tmp_path / path))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_path_takes_the_place_of_a_config(tmp_path, capsys):
    write(tmp_path / "1.jpg", jpeg(1))
    for arguments in (["--config=demo:tiny"], [f"--workdir={tmp_path}"], ["--source=x"], ["--m=3"]):
        with pytest.raises(SystemExit):
            cli.main(["data", "inspect", str(tmp_path), *arguments])
        assert "unknown arguments: " in capsys.readouterr().err
