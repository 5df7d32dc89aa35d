"""Files of weights: detection of the format, files of the safetensors package, and damaged files."""

import json
import os
import pickle

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given

from codi_jax.config import ConfigError
from codi_jax.interop import safetensors_file
from codi_jax.interop.tensors import Item, open_state, write_pth

DTYPES = ("f8", "f4", "f2", ml_dtypes.bfloat16, "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")


def arrays():
    rng = np.random.default_rng(0)
    out = {f"net.{np.dtype(d)}": rng.integers(0, 2, (2, 3, 5)).astype(d) for d in DTYPES}
    return out | {"scalar": np.array(7, np.float32), "none": np.zeros((0, 4), np.float16)}


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def raw(path, header, body=b""):
    """Writes a safetensors file with any header."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)
    return path


def entry(first=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, end]}


def test_safetensors_are_read_bit_exactly(tmp_path):
    file = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays(), file, metadata={"format": "pt"})
    state = open_state(file)
    assert state.keys() == arrays().keys()
    for key, value in arrays().items():
        assert same(state[key], value), key


def test_arrays_are_read_only_views_of_the_file(tmp_path):
    file = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays(), file)
    for x in open_state(file).values():
        root = x
        while isinstance(root.base, np.ndarray):
            root = root.base
        assert isinstance(root, np.memmap) and root.size == file.stat().st_size
        assert not x.flags.writeable
        with pytest.raises(ValueError):
            x.flags.writeable = True


def test_a_tensor_of_64_gib_takes_no_memory(tmp_path):
    size = 64 << 30
    file = raw(tmp_path / "a.safetensors", {"w": entry(0, size, (size >> 12, 1 << 10))})
    os.truncate(file, file.stat().st_size + size)
    x = open_state(file)["w"]
    assert x.nbytes == size and not x[-1].any()


def test_the_format_is_detected_by_content_not_by_name(tmp_path):
    weights = {"w": np.arange(3, dtype=np.float32)}
    safetensors.numpy.save_file(weights, tmp_path / "a.pth")
    write_pth(tmp_path / "a.safetensors", [Item("w", (3,), np.float32, lambda: weights["w"])])
    for name in ("a.pth", "a.safetensors"):
        assert same(open_state(tmp_path / name)["w"], weights["w"])
        assert same(open_state(str(tmp_path / name))["w"], weights["w"])


def test_arrays_stay_valid_after_the_file_is_unlinked(tmp_path):
    file = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays(), file)
    state = open_state(file)
    file.unlink()
    assert same(state["net.float64"], arrays()["net.float64"])


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "the file is empty"),
        (b"\x80", "a bare pickle"),
        (b"x", "neither a PyTorch archive nor a safetensors file"),
        (b"PK", "neither"),
        (b"PK\3\4" + bytes(100), "its end is missing or damaged"),
        (pickle.dumps({"w": 1}), "a bare pickle"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2), "its pickle is truncated"),
        (bytes(257) + b"ustar\x00" + bytes(300), r"this is a tar, .*torch.save\(torch.load\(OLD"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html>", "is a web page, which a download gave in place of the file"),
        (b"GGUF\3\0\0\0", "is a GGUF file"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file of Keras"),
        (b"\x1f\x8b\x08\0", "is compressed by gzip"),
        (b"\x93NUMPY\1\0", "is an array of numpy"),
        ((100_000_001).to_bytes(8, "little") + b"{}", "neither"),
    ],
)
def test_files_of_other_formats_are_refused(tmp_path, content, message):
    file = tmp_path / "a.pth"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        open_state(file)
    assert str(error.value).startswith(f"{file}: ") and "\n" not in str(error.value)


def test_paths_that_are_not_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "link")
    for name, message in (
        ("nothing\n", "there is no such file"),
        ("pipe", "not a file"),
        ("", "not a file"),
        ("link", "link: "),
        ("pipe/a.pth", "pipe/a.pth: "),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            open_state(tmp_path / name)
        assert "\n" not in str(error.value)


TWO = bytes(16)


@pytest.mark.parametrize(
    "header, body, message",
    [
        (b"{", b"", "header is not JSON"),
        (b"{\xff}", b"", "header is not JSON"),
        (b'{"a":' + b"[" * 100_000, b"", "header is not JSON"),
        (b'{"a":' + b"1" * 10_000 + b"}", b"", "header is not JSON"),
        (b'{"a":{},"a":{}}', b"", "its header has a name twice"),
        ({}, b"", "it has no tensors"),
        ({"__metadata__": {"a": "b"}}, b"", "it has no tensors"),
        ({"a": 1}, b"", "tensor a is not described"),
        ({"a": {"dtype": "F32", "shape": [2]}}, TWO, "tensor a is not described"),
        ({"a": {**entry(), "more": 1}}, TWO, "tensor a is not described"),
        ({"a": {**entry(), "shape": "2"}}, TWO, "tensor a is not described"),
        ({"a": {**entry(), "data_offsets": [0, 4, 8]}}, TWO, "tensor a is not described"),
        ({"a": {**entry(), "dtype": 1}}, TWO, "tensor a is not described"),
        ({"a": entry(dtype="F8_E4M3")}, TWO, "tensor a has the unsupported type F8_E4M3"),
        ({"a": entry(shape=(2.0,))}, TWO, "has an invalid shape"),
        ({"a": entry(shape=(True, 2))}, TWO, "has an invalid shape"),
        ({"a": entry(shape=(-2, -1))}, TWO, "has an invalid shape"),
        ({"a": entry(shape=(1,) * 65)}, TWO, "has an invalid shape"),
        ({"a": entry(0, 0, (1 << 62, 1 << 62, 0))}, b"", "no tensor can be as large"),
        ({"a": entry(0, 8, (3,))}, TWO, "data_offsets that do not match its shape"),
        ({"a": entry(8, 0)}, TWO, "data_offsets that do not match its shape"),
        ({"a": entry(-8, 0)}, TWO, "data_offsets that do not match its shape"),
        ({"a": entry(0.0, 8)}, TWO, "data_offsets that do not match its shape"),
        ({"a": entry("0", 8)}, TWO, "data_offsets that do not match its shape"),
        ({"a": entry(1 << 70, (1 << 70) + 8)}, TWO, "data_offsets that do not match its shape"),
        ({"a": entry(0, 8)}, bytes(7), "tensor a reaches beyond the end of the file"),
        ({"a": entry(1 << 62, (1 << 62) + 8)}, TWO, "tensor a reaches beyond the end of the file"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), "tensor b overlaps another"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, bytes(8), "tensor b overlaps another"),
        ({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20), "tensor b leaves a gap after another"),
        ({"a": entry(4, 12)}, bytes(12), "tensor a leaves a gap"),
        ({"a": entry(0, 8)}, bytes(9), "bytes at its end belong to no tensor"),
        ({"a\nb": entry(0, 8)}, bytes(8), r"a tensor is named 'a\\nb'"),
        ({"\ud800": entry(0, 8)}, bytes(8), "a tensor is named"),
        ({"a" * 2000: entry(0, 8)}, bytes(8), "over 1024 characters"),
    ],
)
def test_safetensors_files_that_violate_the_format_are_refused(tmp_path, header, body, message):
    file = raw(tmp_path / "a.safetensors", header, body)
    with pytest.raises(ConfigError, match=message) as error:
        open_state(file)
    assert str(error.value).startswith(f"{file}: ") and "\n" not in str(error.value)


def test_the_number_of_tensors_is_bounded(tmp_path, monkeypatch):
    file = raw(tmp_path / "a.safetensors", {f"{i}": entry(0, 0, (0,)) for i in range(10)})
    assert len(open_state(file)) == 10
    monkeypatch.setattr(safetensors_file, "MAX_TENSORS", 7)
    with pytest.raises(ConfigError, match="over 7 tensors"):
        open_state(file)


def test_every_truncation_is_one_line(tmp_path):
    content = safetensors.numpy.save({"a": np.ones(3, np.float32), "b": np.ones(2, np.float16)})
    for length in range(len(content)):
        file = tmp_path / f"{length}.safetensors"
        file.write_bytes(content[:length])
        with pytest.raises(ConfigError) as error:
            open_state(file)
        assert "\n" not in str(error.value)


@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255), st.sampled_from("scd")), min_size=1, max_size=8),
    st.booleans(),
)
def test_random_damage_gives_arrays_or_one_line(tmp_path_factory, edits, repair):
    """Bytes set, inserted and deleted; in half of the cases the length of the header is corrected."""
    content = safetensors.numpy.save({"a": np.ones(3, np.float32), "b.c": np.ones((2, 2), np.float16)})
    length = int.from_bytes(content[:8], "little")
    out = bytearray(content[8 : 8 + length] if repair else content)
    for place, value, kind in edits:
        at = place % (len(out) + 1)
        out[at : at + (kind != "c")] = b"" if kind == "d" else bytes([value])
    file = tmp_path_factory.mktemp("safetensors") / "a"
    if repair:
        raw(file, bytes(out), content[8 + length :])
    else:
        file.write_bytes(out)
    try:
        state = open_state(file)
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    for key, value in state.items():
        assert type(key) is str and type(value) is np.ndarray and not value.flags.writeable
        value.tobytes()
