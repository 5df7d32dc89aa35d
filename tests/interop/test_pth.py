"""PyTorch's files: read as views, written without PyTorch; hostile ones are refused before any of their code runs."""

import base64
import io
import os
import pickle
import struct
import sys
import types
import warnings
import weakref
import zipfile
import zlib

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

from codi_jax.config import ConfigError
from codi_jax.interop import mapped, pth, pth_pickle
from codi_jax.interop.tensors import Item, open_state, write_pth

# torch.save (2.13.0) of a state dict with a tied, a transposed, a sliced and an empty tensor, and a parameter.
BY_TORCH = """
eNqdlc9v22QYx984rpu6rNBRumzA+D0ytqV2nKQNrD8wxUzygdYwKdolchO39nDjPvabVSBVioQa4AZnJATiyn3sxI0bBxAHDrtxQJz4F3h/OK
ntJh3MimPZfj/f5/s8fh57y8yLCBUK6NQmoyI6XOrY2C4ffOQb+gK6M2brC+124PtOG3tBN5LfDztO6HQ2vTaWAV21IFdqSkTs0PH2XAxCGwdh
2y23etjzI7kVOjs9z++0sNONgrB1ryJDvlRqThMiIivtPQdEjsiGH9j4A35RhqlmjqxRQGrmybF90INpU8JQ2DaRKZj5AcyYeTM3APkLl7qYxf
CEBeeaJFW049kRzLkkjiu6XEeFJ91pU8DwFOOPYd7MHcN5zj6NYcGCZxiLPacDi+45lhPuhV1yemEo5UouM1GkInlTGMBFM0e9XOJCz2J4zoLn
GdsOCBvC5Sz7wrYpEoiwL/IEXuLsyxheseBVZsK1/V14jZNxcXRWHbU+qs8VllcFXud5leK8rtK83uCS1zBct+AGk+wGXQfKqZposERYhEGhLD
LFAajU2wAqnNcwVC2oMX43dByoT3i4B3Zo7zvYCWVYTrm+RRIZOV5hUavQ4I7fjB2/RR3f5BFXMaxZsP45O9n4DN62QO8dwTvNGUK2SAibdits
svvvNmkTg3EE77F+uueEEWlRuGXmoijaKW+Z04WHt+fQAwGxfWviIMyjAhmE8m4Q7tu4FesYusjmQaU69/95+Cl1T/fJOgtolerEjd2yfW+vu+
90saE3xo7Wf9rqVWpg/RD+Jjkg4UwDs2iKGNj5GDsBHVNDz6E7voex71CN49U/L9LWlM7UKCAxfissKYY+vNpfJ38b5Ef2Ptm/3aCKF77866si
uVF8hGJlqKgaevl/loIIkNj9n2g89+e5KwWmeHY8fRivYuhrj1/6OH5/nca+e/e7H+gkiKPYaGxsaRhbM3SBxD7L56Xh2qqhL6KJ+d+k8b/+/t
pcOv44zRnWAaMWJs9fkyn96zd7tx/dP0W0QhuYWYqc0CMd/IlN3/str2Po1ceqpKLUampDUVdqWkXRag1leWWZXKpqSr1e1RpKXdG05YrKxmzt
/i+bJeKjxFzmBFal2GdylOVTzk++Y1kuObrz6Vrl0emxz+LJwVtI4dscPzXtWYXk2M2mFH5jCqNxzYLJ6Uo/rEURjWY0SyVnJE25J5SapZLdna
b+OKEqQ2p85ye3D6dGlJaNlezkNNU/oapZKtnBMynqd0ZNeH7JliqmsPMSmtjsW6YkXY/XXc7fSLxg08cjXg70o8SPhKOfIlSLHfLvxZTEmVm2
nq/9F4LB5c0=
"""

DTYPES = ("f8", "f4", "f2", ml_dtypes.bfloat16, "i8", "i4", "i2", "i1", "u1", "?")


def random_array(shape, dtype, seed=0):
    """Random bit patterns for floats and integers, random bools."""
    dtype, rng = np.dtype(dtype), np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    count = int(np.prod(shape)) * dtype.itemsize
    return rng.integers(0, 256, count, np.uint8).view(dtype).reshape(shape)


def items(arrays):
    return [Item(key, a.shape, a.dtype, lambda a=a: a) for key, a in arrays.items()]


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def archive(path, program, storages=None, more=None, folder="archive", method=zipfile.ZIP_STORED):
    """Writes a zip archive like PyTorch's, with any pickle."""
    with zipfile.ZipFile(path, "w", method) as out:
        out.writestr(f"{folder}/data.pkl", program)
        for name, content in {"byteorder": b"little", **(more or {})}.items():
            out.writestr(f"{folder}/{name}", content)
        for key, content in (storages or {"0": np.arange(6, dtype=np.float32).tobytes()}).items():
            out.writestr(f"{folder}/data/{key}", content)
    return path


@pytest.fixture
def torch(monkeypatch):
    """The part of torch that pickle needs to write what torch.save writes."""

    def module(name):
        monkeypatch.setitem(sys.modules, name, stub := types.ModuleType(name))
        return stub

    def function(owner, name):
        def stub(*args):
            raise AssertionError("never called")

        stub.__module__, stub.__name__, stub.__qualname__ = owner.__name__, name, name
        setattr(owner, name, stub)
        return stub

    root, utils = module("torch"), module("torch._utils")
    function(root, "FloatStorage")
    rebuild, wrap = function(utils, "_rebuild_tensor_v2"), function(utils, "_rebuild_parameter")

    class Storage:
        def __init__(self, key, stored):
            self.pid = ("storage", root.FloatStorage, key, "cpu", stored)

    class Tensor:
        def __init__(self, key="0", stored=6, offset=0, shape=(2, 3), strides=(3, 1)):
            self.args = Storage(key, stored), offset, shape, strides, False, {}

        def __reduce__(self):
            return rebuild, self.args

    class Parameter(Tensor):
        def __reduce__(self):
            return wrap, (Tensor(), True, {})

    def dumps(tree, protocol=2):
        class Pickler(pickle.Pickler):
            def persistent_id(self, thing):
                return thing.pid if isinstance(thing, Storage) else None

        out = io.BytesIO()
        Pickler(out, protocol).dump(tree)
        return out.getvalue()

    return types.SimpleNamespace(Tensor=Tensor, Parameter=Parameter, dumps=dumps)


# Reading.


def test_a_file_written_by_torch_is_read(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(zlib.decompress(base64.b64decode(BY_TORCH)))
    state = open_state(file)
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = {
        "weight": weight,
        "bias": np.array([0.5, -1], np.float32),
        "tied": weight,
        "turned": weight.T,
        "corner": weight[1:, 1:],
        "half": np.array([0, 1], ml_dtypes.bfloat16),
        "none": np.zeros((0, 4), np.float32),
        "free": np.array([0, 1], np.float16),
    }
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
    storage = pth_pickle.Storage("7", np.dtype(np.float16), 3 << 33)
    assert tensor == pth_pickle.Tensor(storage, 0, (3, 1 << 33), (1 << 33, 1))


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


# Hostile pickles. Those that any Python can run are run first, to prove that they are harmful.


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def short(value):
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


class _Reduced:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


SYSTEM = b"cposix\nsystem\n"
PROTO2, PROTO4 = b"\x80\x02", b"\x80\x04"
ORDERED = b"ccollections\nOrderedDict\n"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x06tQ"
GOOD = TENSOR + b"(" + STORAGE + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89" + ORDERED + b")RtR"

# name -> (command -> pickle, text in the message)
RUNNING = {
    "__reduce__": (lambda c: pickle.dumps({"w": _Reduced(c)}, 2), "posix.system"),
    "__reduce__, protocol 0": (lambda c: pickle.dumps({"w": _Reduced(c)}, 0), "the opcode DICT"),
    "__reduce__, protocol 5": (lambda c: pickle.dumps({"w": _Reduced(c)}, 5), "posix.system"),
    "as a key": (lambda c: PROTO2 + b"}" + SYSTEM + text(c) + b"\x85RK\x01s.", "posix.system"),
    "GLOBAL and REDUCE": (lambda c: PROTO2 + b"cos\nsystem\n" + text(c) + b"\x85R.", "os.system"),
    "STACK_GLOBAL": (lambda c: PROTO4 + short("os") + short("system") + b"\x93" + text(c) + b"\x85R.", "os.system"),
    "INST": (lambda c: PROTO2 + b"(" + text(c) + b"ios\nsystem\n.", "os.system"),
    "OBJ": (lambda c: PROTO2 + b"(cos\nsystem\n" + text(c) + b"o.", "os.system"),
    "BUILD with __setstate__": (
        lambda c: PROTO2 + ORDERED + b")R}" + text("__setstate__") + b"cos\nsystem\nsb" + text(c) + b"b.",
        "os.system",
    ),
    "eval": (
        lambda c: PROTO2 + b"cbuiltins\neval\n" + text(f"__import__('os').system({c!r})") + b"\x85R.",
        "builtins.eval",
    ),
    "functools.partial": (
        lambda c: PROTO2 + b"cfunctools\npartial\ncos\nsystem\n\x85R" + text(c) + b"\x85R.",
        "functools.partial",
    ),
    "getattr of a module": (
        lambda c: (
            PROTO2
            + b"cbuiltins\ngetattr\ncbuiltins\n__import__\n"
            + text("os")
            + b"\x85R"
            + text("system")
            + b"\x86R"
            + text(c)
            + b"\x85R."
        ),
        "builtins.getattr",
    ),
    "discarded result": (lambda c: PROTO2 + b"cos\nsystem\n" + text(c) + b"\x85R0}.", "os.system"),
    "memoized": (lambda c: PROTO2 + b"cos\nsystem\nq\x00h\x00" + text(c) + b"\x85R.", "os.system"),
}


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("context", ["alone", "with a tensor"])
def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path, name, context):
    make, reason = RUNNING[name]
    marker = tmp_path / "marker"
    program = make(f"mkdir {marker}")
    if context == "with a tensor":
        start = 2 if program[:1] == b"\x80" else 0
        program = program[:start] + b"}" + text("w") + GOOD + b"s" + program[start:]
    else:
        try:
            pickle.loads(program)
        except Exception as error:  # raised after the command has run
            assert marker.exists(), error
        assert marker.exists(), "the attack does nothing"
        marker.rmdir()
    file = archive(tmp_path / "weights.pth", program)
    with pytest.raises(ConfigError) as error:
        open_state(file)
    assert not marker.exists()
    message = str(error.value)
    assert message.startswith(f"{file}: refused: ") and "\n" not in message
    assert reason in message


def test_the_message_names_the_file_and_the_reason(tmp_path):
    file = archive(tmp_path / "weights.pth", PROTO2 + b"cos\nsystem\n" + text("true") + b"\x85R.")
    with pytest.raises(ConfigError) as error:
        open_state(file)
    assert str(error.value) == (f"{file}: refused: it refers to os.system, but a file of weights may hold only tensors")


@pytest.mark.parametrize(
    "program, reason",
    [
        (b"ctorch.storage\n_load_from_bytes\n" + text("x") + b"\x85R.", "torch.storage._load_from_bytes"),
        (b"ccopyreg\n_reconstructor\n" + ORDERED + b"cbuiltins\ndict\n}\x87R.", "copyreg._reconstructor"),
        (b"c__builtin__\neval\n.", "__builtin__.eval"),
        (b"ctorch.hub\nload\n.", "torch.hub.load"),
        (b"ctorch.storage\nUntypedStorage\n.", "torch.storage.UntypedStorage"),
        (b"ctorch\nComplexFloatStorage\n.", "torch.ComplexFloatStorage"),
        (b"ctorch\nos.FloatStorage\n.", "torch.os.FloatStorage"),
        (short("collections") + short("OrderedDict.__init__.__globals__") + b"\x93.", "OrderedDict.__init__"),
        (b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.", "_rebuild_tensor_v2.__globals__"),
        (b"cos\x1b[2J\nsys\ttem\n.", r"'os\x1b[2J.sys\ttem'"),
        (b"c" + b"a" * 150 + b"\nb\n.", "a" * 100 + "…"),
        (ORDERED + b")\x81.", "the opcode NEWOBJ"),
        (ORDERED + b")}\x92.", "the opcode NEWOBJ_EX"),
        (b"\x82\x01.", "the opcode EXT1"),
        (b"P0\n.", "the opcode PERSID"),
        (b"S'a'\n.", "the opcode STRING"),
        (b"}2.", "the opcode DUP"),
        (b"\xff.", "byte 255"),
        (b"(ccollections\nOrderedDict\no.", "the opcode OBJ"),
        (b"(icollections\nOrderedDict\n.", "it creates a collections.OrderedDict"),
    ],
)
def test_opcodes_and_names_that_tensors_do_not_need_are_refused(tmp_path, program, reason):
    with pytest.raises(ConfigError) as error:
        open_state(archive(tmp_path / "a.pth", PROTO2 + program))
    assert "refused" in str(error.value) and reason in str(error.value) and "\n" not in str(error.value)


def test_the_tensor_that_these_tests_modify_is_valid(tmp_path):
    state = open_state(archive(tmp_path / "a.pth", PROTO2 + b"}" + text("w") + GOOD + b"s."))
    assert same(state["w"], np.arange(6, dtype=np.float32).reshape(2, 3))


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b".",
        b"}",
        b"}K",
        b"}}.",
        b"(}.",
        b"}..",
        b"X\xff\xff\xff\xff.",
        b"X\x01\x00\x00\x00\xff.",
        b"c" + b"x" * 1000,
        b"cos\n",
        b"\x80\x01}.",
        b"\x95" + b"\xff" * 3,
        b"h\x00.",
        b"q\x00.",
        b"\x94.",
        b"s.",
        b"}K\x01s.",
        b"}(K\x01u.",
        b"}(K\x01K\x02K\x01K\x03u.",  # a duplicate key
        b"}(}K\x01u.",  # a dict as a key
        b"})K\x01s.",  # a tuple as a key
        b"}\x88K\x01s.",  # True as a key
        b"}NK\x01s.",
        b"}G" + bytes(8) + b"K\x01s.",
        b"}J\xff\xff\xff\xffK\x01s.",  # a negative number as a key
        b"](K\x01u.",
        b"}K\x01a.",
        b"}(K\x01e.",
        b"u.",
        b"t.",
        b"\x87.",
        b"(\x85t.",
        b"}(b.",
        b"}}b.",  # BUILD of something other than an OrderedDict
        GOOD + b"}b.",
        ORDERED + b"}b.",
        ORDERED + b")RK\x01b.",
        ORDERED + b"R.",
        ORDERED + b"}R.",
        ORDERED + b"]\x85R.",
        b")" * 2 + b"R.",
        b"ctorch\nFloatStorage\n)R.",
        b"ctorch\nSize\n)R.",
        b"ctorch\nSize\nK\x01\x85R.",
        TENSOR + b")R.",
        TENSOR + b"(" + STORAGE + b"K\x00K\x02K\x03\x86K\x03K\x01\x86tR.",
        TENSOR + b"(NK\x00K\x02K\x03\x86K\x03K\x01\x86\x89NtR.",
        TENSOR + b"(" + STORAGE + b"\x88K\x02K\x03\x86K\x03K\x01\x86\x89NtR.",
        TENSOR + b"(" + STORAGE + b"K\x00]K\x03K\x01\x86\x89NtR.",
        TENSOR + b"(" + STORAGE + b"K\x00K\x02N\x86K\x03K\x01\x86\x89NtR.",
        TENSOR + b"(" + STORAGE + b"J\xff\xff\xff\xffK\x02K\x03\x86K\x03K\x01\x86\x89NtR.",
        b"ctorch._utils\n_rebuild_parameter\nN\x88N\x87R.",
        b"NQ.",
        b")Q.",
        STORAGE.replace(b"storage", b"storagf") + b".",
        STORAGE.replace(b"ctorch\nFloatStorage\n", ORDERED) + b".",
        STORAGE.replace(b"K\x06", b"N") + b".",
        b"N.",
        b"].",
        GOOD + b".",
        b"}.",
        b"}K\x01K\x02s.",
        b"}" + text("a\nb") + GOOD + b"s.",
        b"}" + text("a" * 2000) + GOOD + b"s.",
        b"}" + text("a.b") + GOOD + b"s" + text("a") + b"}" + text("b") + GOOD + b"ss.",  # one name twice
        b"}q\x00" + text("a") + b"h\x00s.",  # a dict that contains itself
    ],
)
def test_a_malformed_pickle_is_refused_in_one_line(tmp_path, program):
    with pytest.raises(ConfigError) as error:
        open_state(archive(tmp_path / "a.pth", program if program[:1] == b"\x80" else PROTO2 + program))
    assert "\n" not in str(error.value)


def test_two_tensors_with_one_name_are_named(tmp_path):
    program = b"}" + text("a.b") + GOOD + b"s" + text("a") + b"}" + text("b") + GOOD + b"ss."
    with pytest.raises(ConfigError, match=r"it has two tensors named a\.b"):
        open_state(archive(tmp_path / "a.pth", PROTO2 + program))


def test_the_number_of_items_of_shared_dicts_is_limited(tmp_path, torch, monkeypatch):
    monkeypatch.setattr(pth, "_MAX_ITEMS", 1000)
    for tree in ({}, {"w": torch.Tensor()}):
        for _ in range(30):  # each refers twice to the previous one, which is pickled once
            tree = {"a": tree, "b": tree}
        with pytest.raises(ConfigError, match="over 1000 items"):
            open_state(archive(tmp_path / "a.pth", torch.dumps(tree)))


def test_limits_are_enforced(tmp_path, monkeypatch):
    file = tmp_path / "a.pth"
    write_pth(file, items({f"{i}": random_array((2,), "f4") for i in range(5)}))
    for module, name, value, message in (
        (pth_pickle, "_MAX_OPCODES", 50, "over 50 opcodes"),
        (pth_pickle, "MAX_BYTES", 100, "data.pkl has [0-9]+ bytes, over 100"),
        (pth, "MAX_TENSORS", 4, "over 4 tensors"),
        (mapped, "_MAX_KEY", 0, "a tensor's name is over 0 characters long"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            with pytest.raises(ConfigError, match=message):
                open_state(file)
    assert len(open_state(file)) == 5


def test_deeply_nested_dicts_are_refused(tmp_path, torch):
    tree = {"w": torch.Tensor()}
    for _ in range(40):
        tree = {"a": tree}
    with pytest.raises(ConfigError, match="nested over 32 levels deep"):
        open_state(archive(tmp_path / "a.pth", torch.dumps(tree)))
    deep = PROTO2 + b"}" + text("w") + GOOD + b"s" + text("t") + b")" + b"\x85" * 100_000 + b"s."
    assert list(open_state(archive(tmp_path / "b.pth", deep))) == ["w"]


@pytest.mark.parametrize(
    "tensor, message",
    [
        (dict(stored=5, shape=(5,), strides=(1,)), "the storage of w is 5 float32 in 24 bytes"),
        (dict(stored=1 << 62, shape=(5,), strides=(1,)), "the storage of w is 4611686018427387904 float32 in 24 bytes"),
        (dict(key="9"), "the storage 9 of w is missing"),
        (dict(key="../../etc/passwd"), "of w is missing"),
        (dict(shape=(7,), strides=(1,)), "tensor w reaches element 6 of a storage of 6"),
        (dict(offset=1), "reaches element 6"),
        (dict(offset=1 << 62), "reaches element"),
        (dict(strides=(4, 1)), "reaches element 6"),
        (dict(strides=(1 << 62, 1)), "reaches element"),
        (dict(strides=(1,)), "has strides that do not match its shape"),
        (dict(shape=(1,) * 65, strides=(1,) * 65), "has an invalid shape"),
        (dict(shape=(1 << 62, 1 << 62, 0), strides=(1, 1, 1)), "no tensor can be as large"),
        (dict(shape=(1 << 20, 1 << 20), strides=(0, 0)), "repeated from 6"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, torch, tensor, message):
    with pytest.raises(ConfigError, match=message):
        open_state(archive(tmp_path / "a.pth", torch.dumps({"w": torch.Tensor(**tensor)})))


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
