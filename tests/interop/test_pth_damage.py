"""Hostile and damaged archives of PyTorch: arrays, or an error of one line."""

import base64
import io
import struct
import warnings
import zipfile
import zlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from codi_jax.config import ConfigError
from codi_jax.interop.tensors import open_state
from tests.interop.pth_files import BY_TORCH, GOOD, ORDERED, PROTO2, STORAGE, TENSOR, archive, text

# Hostile and damaged archives.


def test_other_archives_are_refused(tmp_path, torch):
    good = torch.dumps({"w": torch.Tensor()})
    for arguments, message in (
        ((good, None, {"byteorder": b"big"}), "byte order"),
        ((good, None, {"constants.pkl": b""}), "TorchScript archive"),
        ((good, None, {"code/__torch__.py": b""}), "TorchScript archive"),
        ((good, None, None, "a", zipfile.ZIP_DEFLATED), "its entry a/data.pkl is compressed"),
        ((good, None, None, "a/b"), "not of PyTorch"),
        ((good, None, None, "a" * 1100), "a name of over 1024 bytes"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_state(archive(tmp_path / "a.pth", *arguments))
    with zipfile.ZipFile(tmp_path / "two.pth", "w") as out:
        out.writestr("a/data.pkl", good)
        out.writestr("b/data.pkl", good)
    np.savez(tmp_path / "arrays.npz", w=np.ones(2))
    with zipfile.ZipFile(tmp_path / "empty.pth", "w"):
        pass
    for name in ("two.pth", "arrays.npz", "empty.pth"):
        with pytest.raises(ConfigError, match="not of PyTorch"):
            open_state(tmp_path / name)


def test_a_duplicate_entry_is_refused(tmp_path, torch):
    file = tmp_path / "a.pth"
    with zipfile.ZipFile(file, "w") as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            out.writestr("a/data.pkl", torch.dumps({"w": torch.Tensor()}))
    with pytest.raises(ConfigError, match=r"has a/data\.pkl twice"):
        open_state(file)


def records(content):
    """The offsets of the records of the central directory."""
    offsets, at = [], content.find(b"PK\1\2")
    while at >= 0:
        offsets.append(at)
        at = content.find(b"PK\1\2", at + 1)
    return offsets


@pytest.mark.parametrize(
    "offset, layout, value, message",
    [
        (8, "<H", 1, "compressed or encrypted"),
        (10, "<H", 8, "compressed or encrypted"),
        (16, "<L", 0, "the checksum of its entry archive/data.pkl differs"),
        (20, "<L", 5, "its end is missing or damaged"),
        (28, "<H", 5000, "its end is missing or damaged"),
        (30, "<H", 60000, "its end is missing or damaged"),
        (42, "<L", 1, "does not match the directory"),
        (42, "<L", 0xFFFFFFF0, "outside the file"),
        (42, "<L", 0xFFFFFFFF, "its end is missing or damaged"),
        (46, "<B", 0xFF, "is not UTF-8"),
        (46, "<B", 0x20, "does not match the directory"),
    ],
)
def test_an_inconsistent_directory_is_refused(tmp_path, torch, offset, layout, value, message):
    file = archive(tmp_path / "a.pth", torch.dumps({"w": torch.Tensor()}))
    content = bytearray(file.read_bytes())
    struct.pack_into(layout, content, records(content)[0] + offset, value)
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        open_state(file)


def test_overlapping_entries_are_refused(tmp_path, torch):
    file = archive(tmp_path / "a.pth", torch.dumps({"w": torch.Tensor()}))
    content = file.read_bytes()
    first, last = records(content)[0], records(content)[-1]
    for record, size in ((first, 400), (last, 30)):
        forged = bytearray(content)
        struct.pack_into("<2L", forged, record + 20, size, size)
        file.write_bytes(forged)
        with pytest.raises(ConfigError, match="overlaps the next one"):
            open_state(file)


def test_every_truncation_is_one_line(tmp_path, torch):
    content = archive(tmp_path / "a.pth", torch.dumps({"w": torch.Tensor()})).read_bytes()
    for length in range(0, len(content), 3):
        file = tmp_path / f"{length}.pth"
        file.write_bytes(content[:length])
        with pytest.raises(ConfigError) as error:
            open_state(file)
        assert "\n" not in str(error.value)


# Random damage: arrays, or one line.


def opens_or_is_refused(file):
    try:
        state = open_state(file)
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    for key, value in state.items():
        assert type(key) is str and type(value) is np.ndarray and not value.flags.writeable
        if value.size < 1 << 16:
            value.tobytes()


EDITS = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.integers(0, 255), st.sampled_from("scd")), min_size=1, max_size=8
)


def edited(content, edits):
    """Bytes set, inserted and deleted."""
    out = bytearray(content)
    for position, value, kind in edits:
        at = position % (len(out) + 1)
        out[at : at + (kind != "c")] = b"" if kind == "d" else bytes([value])
    return bytes(out)


@given(EDITS)
def test_random_damage_to_a_file(tmp_path_factory, edits):
    file = tmp_path_factory.mktemp("pth") / "a.pth"
    file.write_bytes(edited(zlib.decompress(base64.b64decode(BY_TORCH)), edits))
    opens_or_is_refused(file)


@given(EDITS)
def test_random_damage_to_a_directory(tmp_path_factory, edits):
    file = tmp_path_factory.mktemp("pth") / "a.pth"
    content = zlib.decompress(base64.b64decode(BY_TORCH))
    start = records(content)[0]
    file.write_bytes(content[:start] + edited(content[start:], edits))
    opens_or_is_refused(file)


@given(EDITS)
def test_random_damage_to_a_pickle(tmp_path_factory, edits):
    with zipfile.ZipFile(io.BytesIO(zlib.decompress(base64.b64decode(BY_TORCH)))) as opened:
        program = opened.read("w/data.pkl")
        storages = {n.rpartition("/")[2]: opened.read(n) for n in opened.namelist() if n.startswith("w/data/")}
    opens_or_is_refused(archive(tmp_path_factory.mktemp("pth") / "a.pth", edited(program, edits), storages))


PIECES = (
    b"(",
    b")",
    b"t",
    b"}",
    b"]",
    b"s",
    b"u",
    b"a",
    b"e",
    b"R",
    b"b",
    b"Q",
    b"N",
    b"\x85",
    b"\x86",
    b"\x87",
    b"q\x00",
)
PIECES += (
    b"h\x00",
    b"q\x01",
    b"h\x01",
    b"K\x01",
    b"\x89",
    text("a"),
    text("b"),
    GOOD,
    STORAGE,
    TENSOR,
    ORDERED,
    b"\x94",
)


@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_random_pickle_programs(tmp_path_factory, pieces):
    opens_or_is_refused(archive(tmp_path_factory.mktemp("pth") / "a.pth", PROTO2 + b"".join(pieces) + b"."))
