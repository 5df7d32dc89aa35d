"""Results are kept within bounds, for their own client, and leave as one zip."""

import io
import json
import zipfile

import pytest

from codi_jax.config import ConfigError
from codi_jax.serve.results import PlaygroundResult, ResultLimits, ResultStore
from codi_jax.serve.setting import Setting, Use, from_json

SETTING = Setting(("image",), {"text": Use(text="a red seven")}, seed=3)


def result(token, client="a", size=10):
    about = {"model": "digit_world"}
    return PlaygroundResult(token, client, SETTING, {"image_0.png": bytes(size)}, {"image": ["<img>"]}, about=about)


def store(clock=lambda: 0.0, **limits):
    return ResultStore(ResultLimits(**limits), clock)


def test_the_newest_come_first_and_only_ones_own():
    kept = store()
    for token, client in (("1", "a"), ("2", "b"), ("3", "a")):
        kept.put(result(token, client))
    assert [made.token for made in kept.of_client("a")] == ["3", "1"] and kept.of_client("c") == []
    assert kept.get("2").client == "b" and kept.get("4") is None


def test_a_client_keeps_so_many():
    kept = store(of_a_client=2)
    for token in "1234":
        kept.put(result(token))
    kept.put(result("5", "b"))
    assert [made.token for made in kept.of_client("a")] == ["4", "3"] and kept.get("5")


def test_all_together_keep_so_many_bytes():
    kept = store(megabytes=0.001)
    for i in range(20):
        kept.put(result(str(i), client=str(i), size=300))
        assert kept.bytes <= 1000
    assert kept.get("19") and kept.get("17") and not kept.get("16")
    kept.put(result("large", size=2000))
    assert kept.get("large") is None and kept.bytes == 0


def test_for_so_long():
    now = [0.0]
    kept = store(lambda: now[0], minutes=1)
    kept.put(result("1"))
    now[0] = 59
    kept.put(result("2"))
    assert kept.get("1")
    now[0] = 61
    assert kept.get("1") is None and [made.token for made in kept.of_client("a")] == ["2"]
    assert kept.bytes == result("2").size


def test_a_zip_has_all_files_and_the_setting():
    with zipfile.ZipFile(io.BytesIO(result("1").zip())) as file:
        assert file.namelist() == ["image_0.png", "settings.json"] and file.read("image_0.png") == bytes(10)
        text = file.read("settings.json").decode()
    assert from_json(text) == SETTING
    assert json.loads(text)["files"] == ["image_0.png"] and json.loads(text)["model"] == "digit_world"
    assert result("1").zip() == result("2").zip()
    with pytest.raises(ConfigError, match=r"settings\.json: has no setting"):
        from_json("{}")
