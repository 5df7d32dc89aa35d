"""Files of whole, joined, damaged and cut tars."""

import io
import tarfile

import hypothesis
import pytest
from hypothesis import strategies as st

from codi_jax.data.tar import Tar

BLOCK = 512
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def written(names, size=700, format=tarfile.PAX_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for i, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(bytes([65 + i]) * size))
    return file.getvalue()


def read(data):
    """First letter of every file by name, and the tar."""
    tar = Tar(io.BytesIO(data))
    members = list(tar)
    assert all(member.offset + member.size <= len(data) for member in members)
    return {member.name: data[member.offset : member.offset + 1].decode() for member in members}, tar


NAMES = [f"{i}.txt" for i in range(6)]
EACH = BLOCK + 2 * BLOCK  # a header, and 700 bytes in two blocks
LETTERS = dict(zip(NAMES, "ABCDEF", strict=True))


@pytest.mark.parametrize("format", FORMATS)
def test_a_whole_tar(format):
    files, tar = read(written(NAMES, format=format))
    assert files == LETTERS and (tar.damage, tar.cut) == ("", False)


@pytest.mark.parametrize("format", FORMATS)
def test_files_are_those_that_tarfile_finds(format):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        names = ("a.txt", f"{'d' * 90}/{'e' * 80}.png", "ü.txt", "d/", "link", "f" * 100, "x.bin", "0")
        for i, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = [3, 512, 513, 0, 0, 1500, 0, 10][i]
            info.mtime = 1234.5 if i % 2 and format == tarfile.PAX_FORMAT else 1234
            info.uid, info.uname = (1 << 21, "ü") if i in (2, 5) and format != tarfile.USTAR_FORMAT else (7, "name")
            info.type = {"d/": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}.get(name, tarfile.REGTYPE)
            info.linkname = "a.txt" if name == "link" else ""
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as tar:
        expected = [(member.name, member.offset_data, member.size) for member in tar if member.isreg()]
    assert len(expected) == 6
    found = Tar(io.BytesIO(file.getvalue()))
    assert [(member.name, member.offset, member.size) for member in found] == expected and not found.damage


def test_headers_of_shards_are_read_without_tarfile(monkeypatch):
    monkeypatch.setattr("codi_jax.data.tar._Tar", lambda **_: pytest.fail("tarfile reads a header"))
    file = io.BytesIO(written(NAMES).rstrip(b"\0") + bytes(700))
    for name, member in zip(NAMES, Tar(file), strict=False):
        assert member.name == name


def test_joined_tars_and_an_empty_one():
    files, tar = read(written(NAMES[:3]) + written(NAMES[3:]))
    assert list(files) == NAMES and not tar.damage
    assert read(written([]))[1].damage == ""


@pytest.mark.parametrize("index", range(6))
def test_behind_a_damaged_header_files_are_found_again(index):
    data = bytearray(written(NAMES))
    data[index * EACH] ^= 1
    files, tar = read(data)
    assert files == {name: letter for name, letter in LETTERS.items() if name != NAMES[index]}
    assert (tar.damage, tar.cut) == (f"damaged at byte {index * EACH}", index == 5)


@pytest.mark.parametrize(
    "size, count, damage",
    [
        (4 * EACH, 4, f"cut at byte {4 * EACH}"),
        (4 * EACH + 100, 4, f"cut at byte {4 * EACH + 100}"),
        (4 * EACH + 600, 4, "cut inside of '4.txt'"),
        (3 * EACH - 300, 3, f"cut at byte {3 * EACH - 300}"),  # only padding is lost
        (100, 0, "not a tar"),
        (0, 0, "empty"),
    ],
)
def test_a_cut_tar(size, count, damage):
    files, tar = read(written(NAMES)[:size])
    assert list(files) == NAMES[:count] and (tar.damage, tar.cut) == (damage, True)


@hypothesis.settings(max_examples=200)
@hypothesis.given(st.sampled_from(FORMATS), st.data())
def test_damage_is_named_and_ends(format, data):
    names = [f"{'folder/' * 30}{name}" for name in NAMES] if format != tarfile.USTAR_FORMAT else NAMES
    whole = bytearray(written(names, format=format))
    headers = st.integers(0, len(names) * (len(whole) - 2 * BLOCK) // len(names) - 1)
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(headers)] = data.draw(st.integers(0, 255))
    files, tar = read(bytes(whole[: data.draw(st.integers(1, len(whole)))]))
    assert len(files) <= len(names) + 1
    assert len(files) == len(names) or tar.damage
