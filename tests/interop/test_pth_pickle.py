"""Hostile pickles in PyTorch's files: refused before any of their code runs."""

import os
import pickle

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.interop import mapped, pth_pickle, pth_tree
from codi_jax.interop.tensors import open_state, write_pth
from tests.interop.pth_files import (
    GOOD,
    ORDERED,
    PROTO2,
    PROTO4,
    STORAGE,
    TENSOR,
    archive,
    items,
    random_array,
    same,
    short,
    text,
)


class _Reduced:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


SYSTEM = b"cposix\nsystem\n"
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
        "os.system",
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
        "builtins.__import__",
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
    assert str(error.value) == (
        f"{file}: refused: it refers to os.system, but a file of weights may hold only tensors; save its tensors alone "
        "where it was written: torch.save(model.state_dict(), NEW)"
    )


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
    monkeypatch.setattr(pth_tree, "_MAX_ITEMS", 1000)
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
        (pth_tree, "MAX_TENSORS", 4, "over 4 tensors"),
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
