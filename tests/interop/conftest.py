"""Fixtures of the tests of checkpoint files."""

import io
import pickle
import sys
import types

import pytest


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
