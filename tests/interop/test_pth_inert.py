"""Objects beside the weights, as training programs save them: skipped, and never imported, made or called."""

import argparse
import array
import collections
import contextlib
import datetime
import decimal
import enum
import fractions
import functools
import importlib.abc
import io
import ipaddress
import itertools
import logging
import operator
import os
import pathlib
import pickle
import random
import re
import sys
import types
import typing
import uuid
import zoneinfo

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from codi_jax.config import ConfigError
from codi_jax.interop.families import recognise
from codi_jax.interop.pth_inert import may_skip
from codi_jax.interop.tensors import open_state
from tests.interop.pth_files import GOOD, ORDERED, PROTO2, PROTO4, STORAGE, TENSOR, archive, same, short, text

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


class NoImports(importlib.abc.MetaPathFinder):
    """Fails on every import of a module that is not loaded."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "mmap":  # by numpy, for the file
            raise AssertionError(f"{fullname} is imported")


@pytest.fixture
def no_imports():
    finder = NoImports()
    sys.meta_path.insert(0, finder)
    yield
    sys.meta_path.remove(finder)


@pytest.fixture
def foreign(monkeypatch):
    """Makes a class of a module that exists only as long as the pickle is written."""
    made = []

    def make(module, name, base=object, **members):
        parts = module.split(".")
        for n in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:n]), types.ModuleType(".".join(parts[:n])))
            made.append(".".join(parts[:n]))
        cls = type(name, (base,), {"__module__": module, "__qualname__": name, **members})
        setattr(sys.modules[module], name, cls)
        return cls

    def forget():
        for name in made:
            sys.modules.pop(name, None)

    yield make, forget
    forget()


def lightning(torch, make):
    """What pytorch_lightning saves beside a state dict; the callbacks of 1.4 have classes as keys, later ones names."""
    checkpoint = make("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    attributes = make("pytorch_lightning.utilities.parsing", "AttributeDict", dict)
    node = make("omegaconf.nodes", "AnyNode")
    config = make("omegaconf.dictconfig", "DictConfig")
    enum = make("ldm.util", "Mode", int)
    inner, outer = config(), config()
    leaf = node()
    leaf.__dict__ = {"_metadata": {"ref_type": typing.Any}, "_parent": inner, "_val": 3}
    inner.__dict__ = {"_content": {"rate": leaf}, "_parent": outer}
    outer.__dict__ = {"_content": {"model": inner}, "_parent": None}
    score = np.float64(0.5)
    moments = {0: {"step": 3, "exp_avg": torch.Tensor(), "exp_avg_sq": torch.Tensor()}}
    return {
        "epoch": 7,
        "pytorch-lightning_version": "1.4.2",
        "callbacks": {
            checkpoint: {
                "monitor": "val/loss",
                "best_model_score": torch.Tensor(),
                "dirpath": pathlib.PurePosixPath("x"),
            },
            "ModelCheckpoint{'monitor': 'val/loss', 'mode': 'min'}": {"current_score": score, "best_k_models": {}},
        },
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}],
        "lr_schedulers": [{"milestones": collections.Counter({30: 1}), "_last_lr": [score]}],
        "hyper_parameters": attributes({"config": outer, "mode": enum(2)}),
        "hparams_name": "kwargs",
        "loops": {"fit_loop": {"state_dict": {}}},
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_checkpoint_of_lightning_is_read_without_its_extras(tmp_path, torch, foreign, no_imports, protocol):
    make, forget = foreign
    weights = {"model.diffusion_model.input_blocks.0.0.weight": torch.Tensor()}
    state = collections.OrderedDict(weights)
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    program = torch.dumps({**lightning(torch, make), "state_dict": state}, protocol)
    forget()
    assert b"ModelCheckpoint" in program and b"DictConfig" in program
    state = open_state(archive(tmp_path / "last.ckpt", program))
    key = "state_dict.model.diffusion_model.input_blocks.0.0.weight"
    assert same(state[key], WEIGHT)
    assert {k for k in state if not k.startswith("state_dict.")} == set()
    assert "pytorch_lightning" not in sys.modules and "omegaconf" not in sys.modules
    assert recognise(state).name == "Stable Diffusion 1.x, U-Net alone"


def test_other_programs_objects_are_skipped(tmp_path, torch, foreign, no_imports):
    make, forget = foreign
    env = make("env", "AttrDict", dict)
    tree = {
        "state_dict": {"w": torch.Tensor()},
        "args": argparse.Namespace(lr=1e-4, when=datetime.datetime(2023, 1, 2), out=pathlib.PurePosixPath("a/b")),
        "h": env(rate=3),
        "scalar": np.float32(1),
        "array": np.arange(3),
        "bytes": b"\x00\xff",
        "set": {1, 2},
        "frozen": frozenset([3]),
        "history": collections.defaultdict(list, {"loss": [1.0]}),
        "number": decimal.Decimal("0.1"),
        "ratio": fractions.Fraction(1, 3),
        "queue": collections.deque([1, 2]),
        "complex": 1j,
        "negative": {-1: 2, None: 3, True: 4, 0.5: 5, (1, 2): 6},
    }
    programs = [torch.dumps(tree, protocol) for protocol in (2, 3, 4, 5)]
    forget()
    for program in programs:
        state = open_state(archive(tmp_path / "a.ckpt", program))
        assert list(state) == ["state_dict.w"] and same(state["state_dict.w"], WEIGHT)


class Outer:
    class Inner:
        """Named by getattr before protocol 4."""

    class Member(enum.Enum):
        A = "a"

    def __init__(self):
        self.method = self.__eq__  # getattr, too


class WithKeywords:
    """Made by partial before protocol 4."""

    def __new__(cls, *, n=1):
        return object.__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"n": 2}


def ring():
    """A tuple that holds itself, which pickle takes back from its stack."""
    out = []
    out.append((out,))
    return out[0]


EXTRAS = {
    "builtins of protocol 2": {
        "int": int,
        "range": range(3),
        "str": str,
        "error": ValueError("x"),
        "len": len,
        "max": max,
    },
    "defaultdict of int": collections.defaultdict(int, {"a": 1}),
    "partial": functools.partial(collections.Counter, a=1),
    "classes in classes": [Outer(), Outer.Inner(), Outer.Member.A],
    "keywords": WithKeywords(),
    "types": [type(None), int | str, list[int], typing.Dict[str, int], typing.Optional[int], typing.Literal["a"]],  # noqa: UP006, UP045
    "values": [
        ...,
        NotImplemented,
        re.compile("a"),
        uuid.UUID(int=1),
        ipaddress.ip_address("1.1.1.1"),
        itertools.count(3),
    ],
    "streams": [io.BytesIO(b"a"), io.StringIO("a"), array.array("i", [1]), random.Random(1), logging.getLogger("a")],
    "mappings": [collections.ChainMap({}), collections.UserDict(a=1), zoneinfo.ZoneInfo("UTC"), operator.itemgetter(0)],
    "a ring": ring(),
    "keys that are no names": {"a cat\nand a dog": {"x": 1}, "k" * 3000: {"a": 1}},
    "depth": functools.reduce(lambda inner, _: {"d": inner}, range(60), {}),
}


@pytest.mark.parametrize("name", EXTRAS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_python_pickles_in_its_own_way_is_skipped(tmp_path, torch, no_imports, name, protocol):
    program = torch.dumps({"extra": EXTRAS[name], "state_dict": {"w": torch.Tensor()}}, protocol)
    state = open_state(archive(tmp_path / "a.ckpt", program))
    assert list(state) == ["state_dict.w"] and same(state["state_dict.w"], WEIGHT)


def tensor_of(kind):
    """A tensor with elements that are not read."""
    return {
        "complex": TENSOR
        + b"("
        + STORAGE.replace(b"FloatStorage", b"ComplexFloatStorage")
        + b"K\x00K\x02\x85K\x01\x85\x89NtR",
        "8-bit float": b"ctorch._utils\n_rebuild_tensor_v3\n("
        + STORAGE.replace(b"torch\nFloatStorage", b"torch.storage\nUntypedStorage")
        + b"K\x00K\x06\x85K\x01\x85\x89Nctorch\nfloat8_e4m3fn\ntR",
        "meta": b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\nK\x02\x85K\x01\x85\x89tR",
        "negated": GOOD.removesuffix(b"tR") + b"}" + text("neg") + b"\x88stR",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("complex", "torch.ComplexFloatStorage"),
        ("8-bit float", "torch.float8_e4m3fn"),
        ("meta", "torch.float32"),
        ("negated", "a view with its sign changed"),
    ],
)
def test_a_tensor_that_is_not_read_is_skipped_among_extras_and_named_among_weights(tmp_path, kind, said):
    weight, other = text("w") + GOOD + b"s", text("x") + tensor_of(kind) + b"s"
    apart = PROTO2 + b"}" + text("state_dict") + b"}" + weight + b"s" + other + b"."
    assert list(open_state(archive(tmp_path / "a.ckpt", apart))) == ["state_dict.w"]
    for program in (PROTO2 + b"}" + weight + other + b".", PROTO2 + b"}" + other + b"."):
        with pytest.raises(ConfigError, match=rf"refused: its tensor x is of a kind that is not read: {said}$"):
            open_state(archive(tmp_path / "a.ckpt", program))


def test_tensors_and_parameters_with_attributes_are_read(tmp_path):
    """As training code sets them: `weight.sequence_parallel = True`."""
    attributes = b"}" + text("tag") + b"K\x01s"
    tensor = GOOD.removeprefix(TENSOR).removesuffix(b"R")  # its arguments
    programs = {
        "tensor": b"ctorch._tensor\n_rebuild_from_type_v2\n("
        + TENSOR
        + b"ctorch\nTensor\n"
        + tensor
        + attributes
        + b"tR",
        "parameter": b"ctorch._utils\n_rebuild_parameter_with_state\n(" + GOOD + b"\x88}" + attributes + b"tR",
    }
    for program in programs.values():
        state = open_state(archive(tmp_path / "a.ckpt", PROTO2 + b"}" + text("w") + program + b"s."))
        assert same(state["w"], WEIGHT)


def test_a_pickled_model_says_how_to_save_its_tensors(tmp_path, torch, foreign, no_imports):
    make, forget = foreign
    generator = make("hifigan.models", "Generator")
    alone, beside = torch.dumps(generator()), torch.dumps({"epoch": 1, "model": generator()})
    forget()
    hint = r"save its tensors alone where it was written: torch.save\(model.state_dict\(\), NEW\)"
    for program, message in (
        (alone, f"refused: it holds a pickled hifigan.models.Generator, not tensors by name; {hint}"),
        (beside, f"refused: it has no tensors, but model is a pickled hifigan.models.Generator; {hint}"),
        (
            PROTO2 + b"ctorch._tensor\n_rebuild_from_type_v2\n.",
            "it does not hold a dict of tensors by name",
        ),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            open_state(archive(tmp_path / "a.pt", program))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "posix.system", "nt.system", "subprocess.Popen", "subprocess.check_output", "sys.exit"),
        *("builtins.eval", "builtins.exec", "builtins.setattr", "builtins.__import__", "builtins.open"),
        *("__builtin__.eval", "__builtin__.apply", "builtins.compile", "builtins.dict.update", "builtins.input"),
        *("functools.partial.func", "operator.attrgetter", "importlib.import_module", "runpy.run_path", "pty.spawn"),
        *("shutil.rmtree", "socket.socket", "pickle.loads", "marshal.loads", "code.interact", "ctypes.CDLL"),
        *("types.FunctionType", "types.CodeType", "webbrowser.open", "multiprocessing.Process", "pathlib.Path.unlink"),
        *("collections.OrderedDict.__init__.__globals__", "commands.getoutput", "_io.FileIO", "io.open"),
        *("torch.hub.load", "torch.load", "torch.jit.load", "torch.storage._load_from_bytes", "torch._utils._x"),
        *("torch.serialization.load", "torch.os.system", "torch.package.PackageImporter"),
    ],
)
def test_names_that_run_code_are_refused(tmp_path, name, no_imports):
    assert not may_skip(name)
    module, _, attribute = name.rpartition(".")
    good = b"}" + text("w") + GOOD + b"s"
    program = PROTO4 + good + text("extra") + short(module) + short(attribute) + b"\x93" + b")R" + b"s."
    with pytest.raises(ConfigError, match=f"refused: it refers to {name}") as error:
        open_state(archive(tmp_path / "a.ckpt", program))
    assert "\n" not in str(error.value)


def test_an_extra_is_not_called_even_if_its_module_is_there(tmp_path, monkeypatch, no_imports):
    """A class, a function, `__setstate__` and `__reduce__` of a module that could be used."""
    calls = []
    trap = types.ModuleType("trap")

    class Trap:
        def __new__(cls, *args):
            calls.append("new")
            return object.__new__(cls)

        def __setstate__(self, state):
            calls.append("setstate")

        def __setitem__(self, key, value):
            calls.append("setitem")

        def extend(self, values):
            calls.append("extend")

        def __hash__(self):
            calls.append("hash")
            return 0

    trap.Trap, trap.call = Trap, lambda *args: calls.append("call")
    monkeypatch.setitem(sys.modules, "trap", trap)
    name, function = b"ctrap\nTrap\n", b"ctrap\ncall\n"
    extras = [
        name + b")\x81}" + text("a") + b"K\x01sb",
        name + b")R}b",
        name + b")}\x92",
        name + b")\x81" + text("a") + b"K\x01s",
        name + b")\x81(" + text("a") + b"K\x01u",
        name + b")\x81K\x01a",
        name + b")\x81(K\x01e",
        function + b")R",
        function + text("x") + b"\x85R",
        name + b")R)R)R",
        b"}" + name + b"K\x01s",
        b"}" + name + b")\x81K\x01s",
    ]
    for extra in extras:
        program = PROTO4 + b"}" + text("extra") + extra + b"s" + text("w") + GOOD + b"s."
        state = open_state(archive(tmp_path / "a.ckpt", program))
        assert list(state) == ["w"] and same(state["w"], WEIGHT)
        with contextlib.suppress(TypeError):  # Python's own reader runs them
            pickle.loads(PROTO4 + b"(" + extra + b"1N.")
    assert {"new", "setstate", "setitem", "extend", "call", "hash"} <= set(calls)
    del calls[:]
    for extra in extras:
        open_state(archive(tmp_path / "a.ckpt", PROTO4 + b"}" + text("e") + extra + b"s" + text("w") + GOOD + b"s."))
    assert not calls


HARMLESS = (b"cpytorch_lightning.callbacks\nModelCheckpoint\n", b"cargparse\nNamespace\n", b"ctrap\nTrap\n")
HOSTILE = (b"cos\nsystem\n", b"cbuiltins\neval\n", b"csubprocess\nPopen\n", b"ctorch.hub\nload\n")
PIECES = (
    *HARMLESS,
    *HOSTILE,
    *(text("a"), text("b"), b"K\x01", b"N", b"\x88", b"C\x01x", b"G" + bytes(8), b"\x8f"),
    *(b"(", b")", b"}", b"]", b"t", b"\x85", b"\x86", b"\x91", b"\x90"),
    *(b"s", b"u", b"a", b"e", b"R", b"b", b"\x81", b"\x92", b"Q", b"q\x00", b"h\x00", b"\x94", GOOD, ORDERED),
)


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.booleans())
def test_random_extras_give_the_weights_or_one_line(tmp_path_factory, pieces, closed):
    """Nothing is imported; if the file is read, the weight has its bits."""
    extra = b"".join(pieces) if not closed else b"(" + b"".join(pieces) + b"t"
    program = PROTO4 + b"}" + text("weight") + GOOD + b"s" + text("extra") + extra + b"s."
    file = archive(tmp_path_factory.mktemp("pth") / "a.ckpt", program)
    finder, before = NoImports(), os.listdir(file.parent)
    sys.meta_path.insert(0, finder)
    try:
        state = open_state(file)
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert same(state["weight"], WEIGHT)
        assert not any(name in b"".join(pieces) for name in HOSTILE)
    finally:
        sys.meta_path.remove(finder)
    assert os.listdir(file.parent) == before
