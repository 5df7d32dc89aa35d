"""PyTorch's files: read as views, written without PyTorch."""

import base64
import os
import pickle
import weakref
import zipfile
import zlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from codi_jax.config import ConfigError
from codi_jax.interop import pth, pth_pickle, pth_tensors
from codi_jax.interop.tensors import Item, open_state, write_pth
from tests.interop.pth_files import BY_TORCH, DTYPES, VALUES, WEIGHT, archive, items, random_array, same

# Reading.


def test_a_file_written_by_torch_is_read(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(zlib.decompress(base64.b64decode(BY_TORCH)))
    state = open_state(file)
    expected = {"weight": WEIGHT, "bias": np.array([0.5, -1], np.float32), **VALUES}
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert same(state[key], value), key
    for key in ("tied", "turned", "corner"):
        assert np.shares_memory(state[key], state["weight"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nested_dicts_are_flattened_and_other_values_skipped(tmp_path, torch, protocol):
    tree = {
        "generator": {"conv": torch.Tensor(), "free": torch.Parameter()},
        "steps": 3,
        "far": 1 << 40,
        "rate": 0.5,
        "name": "x",
        "none": None,
        "flag": True,
        "list": [1, [2], (3, 4), (), torch.Tensor()],
        "optimizer": {0: {"moment": torch.Tensor()}, "empty": {}},
    }
    state = open_state(archive(tmp_path / "a.pth", torch.dumps(tree, protocol), folder="any name"))
    assert list(state) == ["generator.conv", "generator.free", "optimizer.0.moment"]
    assert all(same(x, np.arange(6, dtype=np.float32).reshape(2, 3)) for x in state.values())


@pytest.mark.parametrize("shape, strides, offset", [((3, 2), (1, 3), 0), ((2, 2), (3, 1), 1), ((4, 2), (0, 1), 4)])
def test_strides_and_offsets_are_read(tmp_path, torch, shape, strides, offset):
    tree = {"w": torch.Tensor(offset=offset, shape=shape, strides=strides)}
    x = open_state(archive(tmp_path / "a.pth", torch.dumps(tree)))["w"]
    base = np.arange(6, dtype=np.float32)[offset:]
    assert same(x, np.lib.stride_tricks.as_strided(base, shape, [4 * s for s in strides]))


def test_unused_strides_may_have_any_value(tmp_path, torch):
    tree = {
        "one": torch.Tensor(shape=(1, 3), strides=((1 << 63) - 1, 1)),
        "none": torch.Tensor(shape=(0, 1 << 40), strides=((1 << 63) - 1, 1)),
        "scalar": torch.Tensor(shape=(), strides=(), offset=5),
    }
    state = open_state(archive(tmp_path / "a.pth", torch.dumps(tree)))
    assert {k: x.shape for k, x in state.items()} == {"one": (1, 3), "none": (0, 1 << 40), "scalar": ()}
    assert state["scalar"] == 5


def test_arrays_are_read_only_views_of_the_file(tmp_path):
    file = tmp_path / "a.pth"
    write_pth(file, items({"a": random_array((3, 4), "f4"), "b": random_array((5,), "i8")}))
    for x in open_state(file).values():
        root = x
        while isinstance(root.base, np.ndarray):
            root = root.base
        assert isinstance(root, np.memmap) and root.size == file.stat().st_size
        assert not x.flags.writeable and x.flags.aligned
        with pytest.raises(ValueError):
            x.flags.writeable = True


def test_a_sparse_file_of_more_than_4_gib_is_read(tmp_path, torch):
    file, big = tmp_path / "a.pth", 5 << 30
    tree = {"big": torch.Tensor("0", big // 4, big // 4 - 6), "after": torch.Tensor("1")}
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("archive/data.pkl", torch.dumps(tree))
        info = zipfile.ZipInfo("archive/data/0")
        info.file_size = info.compress_size = big
        info.header_offset, info.CRC = out.fp.tell(), 0
        out.fp.write(info.FileHeader(zip64=True))
        out.fp.seek(big, os.SEEK_CUR)
        out.filelist.append(info)
        out.NameToInfo[info.filename], out.start_dir = info, out.fp.tell()
        out.writestr("archive/data/1", np.arange(6, dtype=np.float32).tobytes())
    assert file.stat().st_size > big
    state = open_state(file)
    assert not state["big"].any() and state["after"].ravel().tolist() == list(range(6))


# Writing.


def test_the_round_trip_is_bit_exact(tmp_path):
    arrays = {f"{np.dtype(d)}": random_array((2, 3, 5), d, i) for i, d in enumerate(DTYPES)}
    arrays |= {
        "scalar": random_array((), "f4"),
        "none": np.zeros((0, 4), "f2"),
        "transposed": random_array((2, 3), "f4").T,
    }
    file = tmp_path / "a.pth"
    write_pth(file, items(arrays), ties={"head": "float32", "again": "float32"})
    state = open_state(file)
    assert list(state) == [*arrays, "head", "again"]
    for key, value in arrays.items():
        assert same(state[key], value), key
    assert same(state["head"], arrays["float32"]) and np.shares_memory(state["head"], state["float32"])
    assert os.listdir(tmp_path) == ["a.pth"]


@given(st.lists(st.tuples(st.lists(st.integers(0, 4), max_size=4), st.sampled_from(DTYPES)), min_size=1, max_size=5))
def test_the_round_trip_keeps_all_shapes_and_dtypes(tmp_path_factory, specs):
    file = tmp_path_factory.mktemp("pth") / "a.pth"
    arrays = {f"layer.{i}": random_array(tuple(shape), dtype, i) for i, (shape, dtype) in enumerate(specs)}
    write_pth(str(file), items(arrays))
    state = open_state(str(file))
    assert list(state) == list(arrays) and all(same(state[k], v) for k, v in arrays.items())


def test_the_file_has_the_layout_of_torch(tmp_path):
    file = tmp_path / "a.pth"
    write_pth(file, items({"a": random_array((3,), "f4"), "b": random_array((7,), "f2")}), {"c": "a"})
    with zipfile.ZipFile(file) as opened:
        names = [f"archive/{n}" for n in ("data.pkl", "byteorder", "data/0", "data/1", "version")]
        assert opened.namelist() == names and opened.testzip() is None
        assert opened.read("archive/version") == b"3\n" and opened.read("archive/byteorder") == b"little"
        assert {info.compress_type for info in opened.infolist()} == {zipfile.ZIP_STORED}
    first = file.read_bytes()
    write_pth(file, items({"a": random_array((3,), "f4"), "b": random_array((7,), "f2")}), {"c": "a"})
    assert file.read_bytes() == first


def test_zip64_archives_are_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 20)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    arrays = {f"{i}": random_array((i + 1, 3), "f4", i) for i in range(6)}
    file = tmp_path / "a.pth"
    write_pth(file, items(arrays))
    assert b"PK\6\6" in file.read_bytes()
    state = open_state(file)
    assert all(same(state[k], v) and state[k].flags.aligned for k, v in arrays.items())


def test_numbers_beyond_32_bits_are_written():
    item = Item("w", (3, 1 << 33), np.float16, lambda: None)
    tensor = pth_pickle.load(pickle.PROTO + b"\2" + pth._pickled(item, 7) + pickle.STOP)
    storage = pth_tensors.Storage("7", np.dtype(np.float16), 3 << 33)
    assert tensor == pth_tensors.Tensor(storage, 0, (3, 1 << 33), (1 << 33, 1))


def test_only_one_tensor_at_a_time_is_in_memory(tmp_path):
    alive = []

    def read():
        assert not any(ref() is not None for ref in alive)
        array = np.ones((100, 100), np.float32)
        alive.append(weakref.ref(array))
        return array

    write_pth(tmp_path / "a.pth", [Item(f"{i}", (100, 100), np.float32, read) for i in range(5)])
    assert len(alive) == 5


ONE = Item("a", (2,), np.float32, lambda: np.ones(2, np.float32))


@pytest.mark.parametrize(
    "tensors, ties, message",
    [
        ([ONE, ONE], {}, "two tensors are named a"),
        ([ONE], {"b": "c"}, "b cannot be tied to c"),
        ([ONE], {"a": "a"}, "a cannot be tied to a"),
        ([Item("a", (2,), np.uint16, ONE.read)], {}, "does not support uint16"),
        ([Item("a", (2,), ">f4", ONE.read)], {}, "does not support >f4"),
        ([Item("a", (3,), np.float32, ONE.read)], {}, r"a: float32 \(2,\), expected float32 \(3,\)"),
        ([Item("a", (2,), np.float16, ONE.read)], {}, "a: float32 .*, expected float16"),
        ([Item("a", (1 << 62, 4), np.float32, ONE.read)], {}, "a: no tensor can be as large"),
        ([Item("a\nb", (2,), np.float32, ONE.read)], {}, r"named 'a\\nb'"),
    ],
)
def test_a_failed_write_keeps_the_old_file(tmp_path, tensors, ties, message):
    file = tmp_path / "a.pth"
    file.write_text("before")
    with pytest.raises(ConfigError, match=message) as error:
        write_pth(file, tensors, ties)
    assert str(error.value).startswith(f"{file}: ") and "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["a.pth"] and file.read_text() == "before"


def test_an_unwritable_path_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("nowhere/a.pth", "file/a.pth"):
        with pytest.raises(ConfigError, match="cannot be written") as error:
            write_pth(tmp_path / path, [ONE])
        assert "\n" not in str(error.value)


def test_a_failing_reader_leaves_no_file(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pth(tmp_path / "a.pth", [ONE, Item("b", (2,), np.float32, fail)])
    assert not os.listdir(tmp_path)
