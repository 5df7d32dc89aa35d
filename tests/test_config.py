"""Configs as dataclasses: what is wrong is named by its path, before any compute."""

import dataclasses
from typing import Any, Literal

import pytest
from ml_collections import ConfigDict

from codi_jax.config import ConfigError, did_you_mean, from_dict, renamed


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    kind: Literal["a", "b"] = "a"
    count: int = 1
    flag: bool = False
    limit: int | None = None
    parts: dict[str, Inner] = dataclasses.field(default_factory=dict)
    free: Any = None


def test_from_dict_gives_the_dataclass_with_its_defaults_whatever_mapping_it_is_read_from():
    tree = {"inner": {"rate": 1, "names": ["x", "y"]}, "parts": {"p": {"rate": 0.5}}, "limit": 3, "free": {"q": 1}}
    want = Outer(Inner(1.0, ("x", "y")), parts={"p": Inner(0.5)}, limit=3, free={"q": 1})
    assert from_dict(Outer, tree) == want
    assert isinstance(from_dict(Outer, tree).inner.rate, float)
    config = from_dict(Outer, ConfigDict(tree))
    assert (config.inner, config.parts, config.limit) == (want.inner, want.parts, want.limit)
    assert from_dict(Outer, {"inner": Inner(2.0)}).inner == Inner(2.0)
    assert from_dict(Outer, {"inner": {"rate": 1.0}, "limit": None}).limit is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": "a"}, r"^config\.run\.kinds: unknown key \(did you mean kind\?\); Outer knows inner, kind, "),
        ({"inner": {}}, r"^config\.run\.inner\.rate: missing; Inner needs it$"),
        ({"inner": {"rate": "fast"}}, r"^config\.run\.inner\.rate: expected float, got 'fast'$"),
        ({"inner": {"rate": True}}, r"^config\.run\.inner\.rate: expected float, got True$"),
        ({"inner": 3}, r"^config\.run\.inner: expected a mapping for Inner, got 3$"),
        ({"inner": {"rate": 1.0, "names": "xy"}}, r"^config\.run\.inner\.names: expected a sequence, got 'xy'$"),
        ({"inner": {"rate": 1.0, "names": ["x", 2]}}, r"^config\.run\.inner\.names\[1\]: expected str, got 2$"),
        ({"kind": "c"}, r"^config\.run\.kind: expected one of 'a', 'b', got 'c'$"),
        ({"count": 1.5}, r"^config\.run\.count: expected int, got 1\.5$"),
        ({"count": True}, r"^config\.run\.count: expected int, got True$"),
        ({"flag": 1}, r"^config\.run\.flag: expected bool, got 1$"),
        ({"limit": "3"}, r"^config\.run\.limit: expected int, got '3'$"),
        ({"parts": [1]}, r"^config\.run\.parts: expected a mapping, got \[1\]$"),
        (
            {"parts": {"p": {"rate": 1.0, "rates": 2}}},
            r"^config\.run\.parts\.p\.rates: unknown key \(did you mean rate\?\); Inner knows ",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change, message):
    with pytest.raises(ConfigError, match=message) as error:
        from_dict(Outer, {"inner": {"rate": 1.0}, **change}, "run")
    assert "\n" not in str(error.value)


def test_the_root_is_named_too():
    with pytest.raises(ConfigError, match=r"^config\.<root>: expected a mapping for Outer, got None$"):
        from_dict(Outer, None)
    with pytest.raises(ConfigError, match=r"^config\.inner: missing"):
        from_dict(Outer, {})


@dataclasses.dataclass(frozen=True)
class Renamed:
    depends_on: tuple[str, ...] = renamed("needs", default=())


def test_an_old_key_is_read_with_a_warning_that_names_the_new_one():
    with pytest.warns(FutureWarning, match=r"^config\.run\.needs is now called run\.depends_on$"):
        assert from_dict(Renamed, {"needs": ["a"]}, "run") == Renamed(("a",))
    with pytest.raises(ConfigError, match=r"^config\.needs: unknown key; Renamed knows depends_on$"):
        from_dict(Renamed, {"needs": ["a"], "depends_on": ["b"]})


def test_a_similar_name_is_suggested():
    assert did_you_mean("Imge", ("text", "image")) == " (did you mean image?)"
    assert did_you_mean("smell", ("text", "image")) == ""
