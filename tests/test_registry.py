"""Registries: entries from outside beside the built-in ones, which are imported when they are asked for."""

import copy
import re
import sys

import pytest

import codi_jax
from codi_jax.config import ConfigError
from codi_jax.data.source import SOURCES, SourceEntry
from codi_jax.diffusion.samplers import SAMPLERS
from codi_jax.evaluation.networks import NETWORKS
from codi_jax.modalities import MODALITIES
from codi_jax.objectives.base import OBJECTIVES
from codi_jax.registry import Registry
from tests import registries


@pytest.fixture
def registry():
    return Registry("shape", {"circle": "shapes_for_test"})


def test_a_built_in_entry_is_imported_when_it_is_asked_for(registry, tmp_path, monkeypatch):
    (tmp_path / "shapes_for_test.py").write_text("import sys\nsys.registry.add('circle', 1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "registry", registry, raising=False)
    assert "circle" in registry and list(registry) == ["circle"] and len(registry) == 1
    assert "shapes_for_test" not in sys.modules
    assert registry.find("circle") == registry["circle"] == 1
    del sys.modules["shapes_for_test"]


def test_an_entry_from_outside_comes_after_the_built_in_ones(registry):
    registry.add("line", 2)
    assert list(registry) == ["circle", "line"] and registry.find("line") == 2 and len(registry) == 2


def test_a_name_belongs_to_one_entry(registry):
    registry.add("line", 2)
    registry.add("line", 2)
    with pytest.raises(ValueError, match=r"^shape 'line' is registered already, by 2$"):
        registry.add("line", 3)


@pytest.mark.parametrize(("name", "hint"), [("cirle", " (did you mean circle?)"), ("square", ""), (None, "")])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(registry, name, hint):
    with pytest.raises(ConfigError, match=f"^{re.escape(f'no shape {name!r}{hint}; there are circle')}$"):
        registry.find(name)
    assert name not in registry


def test_a_decorator_adds_an_entry_and_returns_it(registry):
    @registry.register("line")
    class Line: ...

    assert registry["line"] is Line and isinstance(Line, type)


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("modality", MODALITIES),
        ("objective", OBJECTIVES),
        ("sampler", SAMPLERS),
        ("source", SOURCES),
        ("network", NETWORKS),
    ],
)
def test_the_public_decorator_adds_to_the_registry_of_its_kind(kind, entries):
    thing = type("Thing", (), {"name": "thing", "evaluations": 1, "noise": "none", "init": None, "step": None})
    thing = thing() if kind == "sampler" else thing
    options = {"config": object} if kind == "source" else {}
    with registries.restored():
        assert codi_jax.register(kind, "thing", **options)(thing) is thing
        assert "thing" in entries and tuple(entries)[-1] == "thing"
        assert entries["thing"] == (SourceEntry(object, thing) if kind == "source" else thing)
        with pytest.raises(ValueError, match=f"^{kind} 'thing' is registered already"):
            codi_jax.register(kind, "thing", **options)(
                copy.copy(thing) if kind == "sampler" else type("Other", (thing,), {})
            )
    assert "thing" not in entries


def test_a_modality_is_registered_by_its_own_name():
    with pytest.raises(ValueError, match=r"^Thing\.name is 'thing', but it is registered as 'other'$"):
        codi_jax.register("modality", "other")(type("Thing", (), {"name": "thing"}))


def test_an_unknown_kind_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"^no kind 'modalty' \(did you mean modality\?\); there are modality, obj"):
        codi_jax.register("modalty", "thing")
