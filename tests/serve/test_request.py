"""A request as arguments of a pipeline."""

import re

import numpy as np
import pytest

from codi_jax.condition import BEGINNING
from codi_jax.config import ConfigError
from codi_jax.serve.request import OVERHEAD, PlaygroundRequest
from codi_jax.serve.setting import Setting, Use
from tests import toy


@pytest.fixture(scope="module")
def codi():
    return toy.codi(*toy.EVERYTHING)


@pytest.fixture(scope="module")
def values(codi):
    forms = {name: codi[name].value_format for name in toy.EVERYTHING}
    side, frames = forms["video"]["size"], forms["video"]["frames"]
    return {
        "text": "a red seven",
        "image": np.full((side, side, 3), 9, np.uint8),
        "audio": np.zeros(forms["audio"]["samples"], np.int16),
        "video": np.full((frames, side, side, 3), 9, np.uint8),
    }


def arguments(codi, values, painted=None, **setting):
    return PlaygroundRequest(Setting(**setting), values, painted or {}).arguments(codi)


def test_prompts(codi, values):
    given = {"text": Use(text="a red seven"), "image": Use(weight=0.5), "audio": Use(weight=0.0)}
    got = arguments(codi, values, to=("video",), given=given, guidance={"video": 3.0, "text": 9.0}, n=2, steps=7)
    assert got["prompts"] == {"text": "a red seven", "image": values["image"]} and got["hold"] == {}
    assert got["weights"] == {"text": 1.0, "image": 0.5} and got["guidance"] == {"video": 3.0}
    assert (got["to"], got["n"], got["seed"], got["steps"]) == (("video",), 2, 0, 7)


def test_nothing_given(codi):
    got = arguments(codi, {}, to=("image",))
    assert got["prompts"] is None and got["weights"] == {}


def test_what_is_kept(codi, values):
    side = len(values["image"])
    painted = np.arange(side)[:, None] < np.full(side, side // 2)
    given = {
        "text": Use("part", text="a red"), "image": Use("part"), "audio": Use("part", keep=" 0-0.25s "),
        "video": Use("whole", weight=0.0),
    }  # fmt: skip
    got = arguments(codi, values, {"image": painted}, to=("text",), given=given)
    hold = got["hold"]
    assert got["to"] == ("text", "image", "audio", "video") and got["prompts"] is None
    assert hold["text"].keep == BEGINNING and hold["audio"].keep == "0-0.25s" and hold["video"].whole
    assert hold["image"].mask is painted and hold["image"].keep is None
    assert got["weights"] == {"text": 1.0, "image": 1.0, "audio": 1.0, "video": 0.0}


def test_a_change(codi, values):
    painted = np.zeros(values["image"].shape[:2], bool)
    painted[:4] = True
    got = arguments(codi, values, {"image": painted}, given={"image": Use("change", strength=0.4)})
    assert got["hold"]["image"].strength == 0.4 and got["hold"]["image"].mask is painted and got["weights"] == {}


@pytest.mark.parametrize(
    "name, use, message",
    [
        ("image", Use("part"), "image: say which part is kept, or paint over what is generated"),
        ("image", Use("part", keep="0"), "image: keep: '0', but it has no time"),
        ("video", Use("part", keep="99"), "video: keep: expected frames from 0 to 7"),
        ("video", Use("part", keep="0-7"), "video: all of it is kept"),
        ("audio", Use("part", keep="nonsense"), "audio: keep: expected spans of seconds"),
        ("audio", Use("part", keep="8-9s"), "audio: no part of it is kept"),
    ],
)
def test_a_part_that_cannot_be_kept_is_refused_at_once(codi, values, name, use, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        arguments(codi, values, given={name: use})


def test_a_value_that_is_missing(codi):
    with pytest.raises(ConfigError, match="image: give a file, which is not in a link; or do not use it"):
        arguments(codi, {}, to=("audio",), given={"image": Use()})


def test_the_cost_is_that_of_what_is_generated(values):
    given = {"video": Use("whole"), "audio": Use("part", keep="0-0.25s"), "text": Use(text="a red seven")}
    request = PlaygroundRequest(Setting(("image", "video"), given, steps=10, n=3), values)
    assert request.generated() == ("image", "audio") and request.cost() == 3 * (10 + OVERHEAD) * 2
