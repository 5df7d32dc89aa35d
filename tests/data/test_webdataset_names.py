"""Names of files in shards whose keys have dots, and names of compressed shards."""

import bz2
import gzip
import lzma
import shlex
import subprocess

import pytest

from codi_jax.config import ConfigError
from codi_jax.data.recognition import recognize
from codi_jax.data.skip_bad_samples import FaultsConfig
from tests.data.tars import png, records, sample, shard

# Keys with dots


@pytest.mark.parametrize("keys", [("3.5", "3.6"), ("v1.5_0001", "v1.5_0002"), ("a.b.c", "a.b.d"), ("x/1.0", "x/1.1")])
def test_keys_with_dots(tmp_path, keys):
    """As of files named after numbers, versions or times."""
    members = {f"{key}.{end}": data for i, key in enumerate(keys) for end, data in (("png", png(i)), ("txt", b"a"))}
    rows = records(shard(tmp_path / "x.tar", members), index=str(tmp_path / "index"))
    again = records(tmp_path / "x.tar", index=str(tmp_path / "index"))
    assert [rows[i]["name"] for i in range(len(rows))] == [f"{tmp_path / 'x.tar'}/{key}" for key in keys]
    assert [again[i] for i in range(2)] == [rows[i] for i in range(2)] and not rows.notes()


@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, reverse=True)], ids=["forwards", "backwards"])
def test_suffixes_with_dots_are_those_of_webdataset(tmp_path, order):
    """A mask beside an image is no sample, and does not take the place of the image."""
    members = {"1.depth.png": png(100), **{f"1.{end}": data for end, data in (("jpg", png(1)), ("txt", b"a"))}}
    members |= {"2.jpg": png(2), "2.seg.PNG": png(200), "2.txt": b"b"}
    path = shard(tmp_path / "x.tar", {name: members[name] for name in order(members)})
    rows = records(path)
    both = sorted(rows[i]["name"].rpartition("/")[2] for i in range(len(rows)))
    assert both == ["1", "2"]
    said, _, others = rows.notes()[0].partition(": ")
    assert said == "files of other kinds are passed over" and set(others.split(", ")) == {"depth.png 1", "seg.png 1"}
    images = records(path, media={"modalities": ("image",)})
    assert len(images) == 2 and {images[i]["image"].data for i in range(2)} == {png(1), png(2)}


def test_groups_of_both_ways_in_one_shard(tmp_path):
    members = {"1.jpg": png(1), "1.seg.png": png(9), "1.txt": b"a", "2.5.jpg": png(2), "2.5.txt": b"b"}
    members |= {"3.a.jpg": png(9), "3.b.jpg": png(9), "3.jpg": png(3), "3.txt": b"c", "4.jpg": png(4), "4.txt": b"d"}
    rows = records(shard(tmp_path / "x.tar", members))
    assert [rows[i]["name"].rpartition("/")[2] for i in range(len(rows))] == ["1", "2.5", "3", "4"]
    assert [rows[i]["image"].data for i in range(4)] == [png(i) for i in range(1, 5)]
    assert rows.notes() == ["files of other kinds are passed over: seg.png 1, a.jpg 1, b.jpg 1"]


def test_samples_of_suffixes_with_dots_alone_name_them(tmp_path):
    path = shard(tmp_path / "x.tar", {"1.left.png": png(1), "1.right.png": png(2), "1.txt": b"a"})
    with pytest.raises(ConfigError, match=r"with text; files of other kinds .*: left\.png 1, right\.png 1$"):
        records(path)


# Compressed tars


@pytest.mark.parametrize(
    ("name", "compress", "unpack"),
    [
        ("x.tar.gz", gzip.compress, "gunzip -k {}"),
        ("x.tgz", gzip.compress, "gunzip -k {}"),
        ("x.tar", gzip.compress, "gunzip -c {} > unpacked.tar"),
        ("x.tar.bz2", bz2.compress, "bunzip2 -k {}"),
        ("x.tar.xz", lzma.compress, "unxz -k {}"),
        ("a b.tar.gz", gzip.compress, "gunzip -k {}"),
    ],
)
def test_a_compressed_tar_is_refused_with_the_command_that_unpacks_it(tmp_path, name, compress, unpack):
    path = tmp_path / name
    path.write_bytes(compress(shard(tmp_path / "whole", sample(1)).read_bytes()))
    for read in (lambda: records(path, faults=FaultsConfig(max_bad_fraction=1.0)), lambda: recognize(str(path))):
        with pytest.raises(ConfigError) as error:
            read()
        program = {"gunzip": "gzip", "bunzip2": "bzip2", "unxz": "xz"}[unpack.split()[0]]
        assert str(error.value) == (
            f"{path}: compressed by {program}, so its files have no offsets; unpack it: "
            f"{unpack.format(shlex.quote(str(path)))}"
        )
    if name != "x.tar":
        (tmp_path / "whole").unlink()
        with pytest.raises(ConfigError, match="unpack it: "):
            recognize(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "begins", "said"),
    [
        ("x.tar.zst", b"\x28\xb5\x2f\xfd", "compressed by zstd, so its files have no offsets; unpack it: unzstd -k "),
        ("x.tar.zst", b"\x50\x2a\x4d\x18", "compressed by zstd, "),  # a frame to skip comes first
        ("x.tar.lz4", b"\x04\x22\x4d\x18", "compressed by lz4, so its files have no offsets; unpack it: unlz4 -k "),
        ("x.tar.lzma", lzma.compress(b"", lzma.FORMAT_ALONE), "compressed by lzma, .* unpack it: unlzma -k "),
        ("x.tar.Z", b"\x1f\x9d\x90", "compressed by compress, .* unpack it: uncompress -k "),
        ("x.tar", b"PK\3\4", "a zip archive, not a tar; unpack it and read its folder"),
        ("x.tar", b"7z\xbc\xaf\x27\x1c", "a 7z archive, not a tar"),
        ("x.tar", b"Rar!\x1a", "a RAR archive, not a tar"),
        ("x.tar", b"<!DOCTYPE html>", "1 of 1 shards are damaged, .*: a web page, not a tar; fetch it again"),
        ("x.tar", b"version https://git-lfs.github.com/spec/v1\n", ": a Git LFS pointer, not a tar; fetch it with"),
    ],
)
def test_what_is_taken_for_a_tar_is_named(tmp_path, name, begins, said):
    (tmp_path / name).write_bytes(begins.ljust(2000, b"\1"))
    with pytest.raises(ConfigError, match=said) as error:
        records(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_shard_that_was_not_fetched_is_one_of_the_damaged(tmp_path):
    """So that the others of a thousand are used."""
    for i in range(3):
        shard(tmp_path / f"{i}.tar", sample(i))
    (tmp_path / "3.tar").write_bytes(b"<html>" * 400)
    rows = records(tmp_path / "{0..3}.tar", faults=FaultsConfig(max_bad_fraction=0.5))
    assert len(rows) == 3 and rows.notes() == [f"{tmp_path / '3.tar'}: a web page, not a tar; fetch it again"]


def test_the_command_unpacks_it(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(shard(tmp_path / "whole", sample(1)).read_bytes()))
    with pytest.raises(ConfigError) as error:
        records(tmp_path / "x.tar.gz")
    subprocess.run(["sh", "-c", str(error.value).partition("unpack it: ")[2]], check=True)
    assert records(tmp_path / "x.tar")[0]["text"] == "caption 1"
