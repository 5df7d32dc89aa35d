"""Shards as img2dataset and video2dataset write them; damaged ones."""

import io
import re
import shutil
import tarfile
import time

import hypothesis
import numpy as np
import pytest
import s3fs
from hypothesis import strategies as st
from PIL import Image

from codi_jax import range_reads, storage
from codi_jax.config import ConfigError
from codi_jax.data import shard_index, webdataset
from codi_jax.data.skip_bad_samples import FaultsConfig
from codi_jax.data.source import make_source, read_batch
from codi_jax.data.webdataset import expand
from codi_jax.media import files
from codi_jax.media.files import MediaError
from codi_jax.storage import StoreError
from tests import s3
from tests.data.tars import MEDIA, png, records, sample, shard


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Ten samples in three shards."""
    root = tmp_path_factory.mktemp("shards")
    for k, part in enumerate((range(4), range(4, 5), range(5, 10))):
        shard(root / f"{k:05d}.tar", {name: data for i in part for name, data in sample(i).items()})
    return root


def config(pattern, **changes):
    media = {**MEDIA, **changes.pop("media", {})}
    return {"name": "webdataset", "shards": str(pattern), "media": media, **changes}


@pytest.mark.parametrize(
    "pattern", ["{00000..00002}.tar", "*.tar", "{00000,00001,00002}.tar", "0000{0,1}.tar, FOLDER/{00002..00002}.tar"]
)
def test_samples_of_all_shards_in_order(shards, pattern):
    source = make_source(config(str(shards / pattern).replace("FOLDER", str(shards))))
    assert len(source) == 10
    batch = read_batch(source, range(10))
    assert batch["text"]["caption"].tolist() == [f"caption {i}" for i in range(10)]
    assert batch["image"][:, 4, 4, 0].tolist() == list(range(10))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_and_long_names(tmp_path, format):
    folder = "/".join(["a" * 60] * (3 if format != tarfile.USTAR_FORMAT else 2))
    members = {f"{folder}/{name}": data for name, data in {**sample(1), **sample(2)}.items()}
    rows = records(shard(tmp_path / "x.tar", members, format))
    assert [rows[i]["text"] for i in range(2)] == ["caption 1", "caption 2"]
    assert rows[0]["name"].endswith(f"{folder}/000000001")


def test_without_a_txt_file_the_caption_is_read_from_json(tmp_path):
    members = {name: data for name, data in sample(3).items() if not name.endswith("txt")}
    path = shard(tmp_path / "x.tar", members)
    assert records(path)[0]["text"] == "other 3"
    with pytest.raises(MediaError, match="has no field 'title'"):
        records(path, caption="title")[0]


def test_audio_and_image_are_taken_from_the_video(tmp_path):
    file = tmp_path / "video.mp4"
    files.write_video(file, np.full((8, 32, 32, 3), 99, np.uint8), 8.0)
    path = shard(tmp_path / "x.tar", {"7.mp4": file.read_bytes(), "7.txt": b"grey"})
    media = {"modalities": ("text", "image", "video"), "frames": 2, "rate": 2.0, "middle_frame": True}
    decoded = make_source(config(path, media=media))[0]
    assert np.abs(decoded["image"].astype(int) - 99).max() < 5 and decoded["video"].shape == (2, 8, 8, 3)
    with pytest.raises(MediaError) as error:  # the video has no audio stream
        make_source(config(path, media={"modalities": ("audio",)})).source[0]
    assert error.value.reason == "kind"


def test_other_files_and_folders_are_skipped(tmp_path):
    members = {**sample(1), "README": b"no suffix", ".hidden.txt": b"hidden", "000000001.cls": b"3", "lonely.txt": b"x"}
    path = shard(tmp_path / "x.tar", members)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("2.txt"))
    rows = records(path)
    assert len(rows) == 1 and rows[0]["text"] == "caption 1"


def test_with_an_index_the_tars_are_not_scanned_again(shards, tmp_path, monkeypatch):
    pattern, index = shards / "*.tar", str(tmp_path / "index")
    first = records(pattern, index=index)
    monkeypatch.setattr(shard_index, "scan", lambda *a: pytest.fail("the tar is scanned again"))
    again = records(pattern, index=index)
    assert all(again[i] == first[i] for i in range(10)) and len(again) == 10
    monkeypatch.undo()
    for damage in (b"{damaged", b"", b"{}\n", b"[" * 100_000 + b"\n"):
        for cache in (tmp_path / "index").iterdir():
            cache.write_bytes(damage)
        assert [row["text"] for row in records(pattern, index=index)] == [f"caption {i}" for i in range(10)]


def test_an_index_does_not_outlive_its_shard(tmp_path):
    """A shard is written again, of the same size."""
    index = str(tmp_path / "index")
    for animals in (("a cat", "a dog"), ("an ox", "a kid")):
        time.sleep(0.02)  # the clock of a file system has ticks of some milliseconds
        members = {name: data for i in range(2) for name, data in sample(i, animals[i]).items()}
        path = shard(tmp_path / "x.tar", members)
        rows = records(path, index=index)
        assert [row["text"] for row in rows] == list(animals)


def test_a_shard_that_is_deleted_while_it_is_read(shards, tmp_path):
    for name in ("00000.tar", "00002.tar"):
        shutil.copy(shards / name, tmp_path)
    source = make_source(config(tmp_path / "*.tar", faults={"max_bad_fraction": 0.5}))
    (tmp_path / "00000.tar").unlink()
    assert {source[i]["text"]["caption"] for i in range(9)} == {f"caption {i}" for i in range(5, 10)}
    assert source.counts() == "missing 4"
    strict = make_source(config(tmp_path / "00002.tar"))
    (tmp_path / "00002.tar").unlink()
    with pytest.raises(ConfigError, match=r"^data: 1 of 1 samples .*: .*00002\.tar: the shard is no longer there$"):
        strict[0]


def test_a_truncated_tar_has_the_samples_before_the_cut(tmp_path):
    members = {name: data for i in range(5) for name, data in sample(i).items()}
    whole = shard(tmp_path / "x.tar", members).read_bytes()
    path = tmp_path / "cut.tar"
    for size in range(600, len(whole.rstrip(b"\0")), 700):
        path.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=r"^data: 1 of 1 shards are damaged, .*cut\.tar: cut (at byte|inside of)"):
            records(path)
        try:
            rows = records(path, faults=FaultsConfig(max_bad_fraction=1.0))
        except ConfigError as error:
            assert "no sample has" in str(error)
            continue
        assert [rows[i]["text"] for i in range(len(rows))] == [f"caption {i}" for i in range(len(rows))]


def test_damaged_shards_are_named_and_counted(tmp_path, caplog):
    """Ten shards of twenty samples: one has lost a header, one is cut, one is empty."""
    for k in range(10):
        shard(tmp_path / f"{k}.tar", {name: data for i in range(20) for name, data in sample(20 * k + i).items()})
    content = bytearray((tmp_path / "2.tar").read_bytes())
    content[content.index(b"000000047.txt")] ^= 1
    (tmp_path / "2.tar").write_bytes(content)
    caplog.set_level("WARNING", "codi_jax")
    rows = records(tmp_path / "*.tar")
    assert len(rows) == 200 and rows[47]["text"] == "other 47"  # the caption in the json file
    assert re.search(r"2\.tar: damaged at byte \d+; its other samples are used$", caplog.text.strip())
    whole = (tmp_path / "5.tar").read_bytes()
    (tmp_path / "5.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(
        ConfigError, match=r"^data: 2 of 10 shards .* max_bad_fraction=0.01 allows; the first, .*2\.tar: "
    ):
        records(tmp_path / "*.tar")
    (tmp_path / "7.tar").write_bytes(b"")
    some = records(tmp_path / "*.tar", faults=FaultsConfig(max_bad_fraction=0.2))
    assert 160 < len(some) < 170
    assert [note.split("/")[-1][:10] for note in some.notes()] == ["2.tar: dam", "5.tar: cut", "7.tar: emp"]


def test_files_of_other_kinds_are_counted(tmp_path):
    more = {"000000001.cls": b"3", "000000001.metadata.pyd": b"", "000000002.cls": b"4"}
    rows = records(
        shard(tmp_path / "x.tar", dict(sorted({**sample(1), **sample(2), **more}.items()))), index=str(tmp_path)
    )
    again = records(tmp_path / "x.tar", index=str(tmp_path))
    assert rows.notes() == again.notes() == ["files of other kinds are passed over: cls 2, metadata.pyd 1"]


@pytest.mark.parametrize(
    "suffix, kind", [("gif", "gif"), ("tiff", "tiff"), ("tif", "tiff"), ("avif", "avif"), ("jp2", "jpeg2000")]
)
def test_images_of_every_suffix_are_read(tmp_path, suffix, kind):
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (90, 90, 90)).save(file, kind)
    source = make_source(config(shard(tmp_path / "x.tar", {f"1.{suffix}": file.getvalue(), "1.txt": b"grey"})))
    assert np.abs(source[0]["image"].astype(int) - 90).max() < 4


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"a text", "not a tar"), (bytes(5000), "no sample has"), (b"\xff" * 2000, "not a tar")],
)
def test_files_that_are_not_tars(tmp_path, content, says):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        records(tmp_path / "x.tar")


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=60)
@hypothesis.given(st.data())
def test_a_damaged_tar_gives_samples_or_a_one_line_error(tmp_path, data):
    whole = bytearray(shard(tmp_path / "x.tar", {**sample(1), **sample(2)}).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "x.tar").write_bytes(whole)
    try:
        source = make_source(config(tmp_path / "x.tar", faults={"max_bad_fraction": 1.0}))
        for i in range(len(source)):
            assert source[i]["image"].shape == (8, 8, 3)
    except ConfigError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"1.png": b"not an image", "1.txt": b"a"}, "kind"),
        ({"1.png": b"", "1.txt": b"a"}, "empty"),
        ({"1.png": png(3), "1.txt": b"\xff\xfe\xfa"}, "value"),
        ({"1.png": png(3), "1.txt": b" \n"}, "empty"),
        ({"1.png": png(3), "1.json": b"{oh"}, "value"),
        ({"1.png": png(3), "1.json": b"[" * 100_000}, "value"),
        ({"1.png": png(3), "1.json": b'{"caption": 3}'}, "value"),
    ],
)
def test_a_sample_that_cannot_be_used(tmp_path, members, reason):
    source = make_source(config(shard(tmp_path / "x.tar", members)))
    with pytest.raises(MediaError) as error:
        source.source[0]
    assert error.value.reason == reason and "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=f"1 of 1 samples cannot be used .{reason} 1"):
        source[0]


def test_a_large_file_is_not_read(tmp_path, monkeypatch):
    path = shard(tmp_path / "x.tar", sample(1))
    rows = records(path)
    monkeypatch.setattr(files, "MAX_BYTES", 5)
    monkeypatch.setattr(webdataset, "read_ranges", lambda *a: pytest.fail("the file is read"))
    with pytest.raises(MediaError) as error:
        rows[0]
    assert error.value.reason == "large"


def test_no_sample_has_the_modalities(shards):
    with pytest.raises(ConfigError, match="no sample has text and audio; 3 shards hold 10 samples with image, text"):
        records(shards / "*.tar", media={"modalities": ("text", "audio")})


def test_shards_in_the_home_directory(shards, monkeypatch):
    monkeypatch.setenv("HOME", str(shards))
    assert records("~/00001.tar")[0]["text"] == "caption 4"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("{a..b}.tar", "expected a range of numbers or a list in braces"),
        ("{5..1}.tar", "expected a range of numbers or a list in braces"),
        ("{00000,00009}.tar", "00009.tar: no such shard"),
        ("{00000..00007}.tar", "00003.tar: no such shard"),
        ("none*.tar", "no such shard"),
    ],
)
def test_patterns_that_match_nothing(shards, pattern, says):
    with pytest.raises(ConfigError, match=says):
        expand(str(shards / pattern))


def upload(bucket, names=("x.tar",)):
    for name in names:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name_of_file, data in {n: data for i in range(3) for n, data in sample(i).items()}.items():
                info = tarfile.TarInfo(name_of_file)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        storage.as_path(f"{bucket}/{name}").write_bytes(file.getvalue())


def test_shards_on_remote_storage(monkeypatch, tmp_path):
    bucket = s3.bucket(monkeypatch, "shards")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    upload(bucket, ("x.tar", "y.tar"))
    source = make_source(config(f"{bucket}/*.tar", index=f"{bucket}/index"))
    assert read_batch(source, range(6))["text"]["caption"].tolist() == [f"caption {i % 3}" for i in range(6)]
    monkeypatch.setattr(shard_index, "scan", lambda *a: pytest.fail("the tar is scanned again"))
    assert len(make_source(config(f"{bucket}/{{x,y}}.tar", index=f"{bucket}/index"))) == 6
    shutil.rmtree(tmp_path / "codi_jax")  # as on another host: the index is copied from the store
    assert len(make_source(config(f"{bucket}/x.tar", index=f"{bucket}/index"))) == 3
    assert len(list((tmp_path / "codi_jax" / "shards").iterdir())) == 1
    with pytest.raises(ConfigError, match=r"^s3://shards/z\.tar: no such shard$"):
        make_source(config(f"{bucket}/{{x,z}}.tar"))


def test_a_store_that_fails_refuses_no_sample(monkeypatch):
    bucket, failures = s3.bucket(monkeypatch, "failing"), [0]
    upload(bucket)
    source = make_source(config(f"{bucket}/x.tar", faults={"max_bad_fraction": 1.0}))
    cat_file = s3fs.S3FileSystem._cat_file

    async def failing(self, path, **limits):
        if failures[0]:
            failures[0] -= 1
            raise TimeoutError("no answer")
        return await cat_file(self, path, **limits)

    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", failing)
    monkeypatch.setattr(range_reads, "FIRST_WAIT", 1e-3)
    failures[0] = 3
    assert source[1]["text"]["caption"] == "caption 1" and source.bad == 0
    failures[0] = range_reads.ATTEMPTS
    with pytest.raises(StoreError, match=r"^s3://failing/x\.tar cannot be read: no answer"):
        source[1]
    assert source[1]["text"]["caption"] == "caption 1" and source.bad == 0
    storage.as_path(f"{bucket}/x.tar").unlink()
    with pytest.raises(ConfigError, match=r"none of the 3 samples can be used .missing 3"):
        source[1]


@pytest.mark.parametrize("kept", [True, False], ids=["index file", "memory"])
def test_an_index_takes_tens_of_bytes_a_sample(tmp_path, kept):
    count = 2000
    members = {f"{i:09d}.{suffix}": b"x" for i in range(count) for suffix in ("jpg", "txt", "json")}
    del members["000000007.jpg"]
    path = shard(tmp_path / "x.tar", members)
    rows = records(path, index=str(tmp_path / "index") if kept else "")
    (index,) = rows._contents
    size = next((tmp_path / "index").iterdir()).stat().st_size if kept else len(index.content)
    assert size < 32 * count and (kept == (not index.content))
    assert len(rows) == count - 1 and rows[7]["name"].endswith("000000008") and rows[6]["text"] == "x"
    assert index.sets == {"text+image": count - 1, "text": 1}
