"""Registries: entries from outside beside the built-in ones, which are imported when they are asked for."""

import sys

import pytest

from codi_jax.config import ConfigError
from codi_jax.registry import Registry


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


@pytest.mark.parametrize("name", ["cirle", None])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(registry, name):
    with pytest.raises(ConfigError, match=rf"^no shape {name!r}; there are circle$"):
        registry.find(name)
    assert name not in registry
