"""Settings in links and in settings.json, and their bounds."""

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.config import ConfigError
from codi_jax.serve.setting import (
    MAX_LINK,
    MAX_SEED,
    ROLES,
    Limits,
    Setting,
    Use,
    check,
    from_json,
    from_query,
    to_json,
    to_query,
)

NAMES = ("text", "image", "audio", "video")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
NUMBER = st.floats(0, 1, allow_nan=False)
USES = st.builds(Use, st.sampled_from(ROLES), NUMBER, TEXT, NUMBER, st.none() | TEXT)
SETTINGS = st.builds(
    Setting,
    st.lists(st.sampled_from(NAMES), unique=True).map(tuple),
    st.dictionaries(st.sampled_from(NAMES), USES),
    st.dictionaries(st.sampled_from(NAMES), st.floats(0, 30)),
    *(st.integers(1, 100), st.integers(0, MAX_SEED), st.integers(1, 8)),
)


@given(SETTINGS)
def test_a_link_holds_a_setting(setting):
    query = to_query(setting)
    assert from_query(query) == setting and "\n" not in query and " " not in query
    assert from_query(f"{query}&__theme=dark") == setting


@given(SETTINGS)
def test_settings_json_holds_a_setting(setting):
    text = to_json(setting, model="digit_world", files=["image_0.png"])
    assert from_json(text) == setting and json.loads(text)["model"] == "digit_world"


@given(st.text(max_size=200))
def test_any_text_is_a_link_or_refused_in_one_line(query):
    try:
        from_query(query)
    except ConfigError as error:
        assert "\n" not in str(error) and len(str(error)) < 300


@given(st.text(max_size=200) | SETTINGS.map(to_json).map(lambda text: text[:-3]))
def test_any_text_is_a_setting_or_refused(text):
    with pytest.raises(ConfigError):
        from_json(text)


def test_a_link_says_of_which_modalities_there_were_files():
    setting = Setting(("audio",), {"text": Use(text="a red seven"), "video": Use("whole")})
    assert from_query(to_query(setting)).files() == ("video",)
    assert to_query(setting) == "to=audio&text.as=prompt&text.text=a+red+seven&video.as=whole&steps=25&seed=0&n=1"


@pytest.mark.parametrize(
    "query, message",
    [
        ("steps=many", "link: steps: expected a number, got 'many'"),
        ("steps=1&steps=2", "link: steps is given twice"),
        ("image.weight=1&image.weight=1", "link: image.weight is given twice"),
        ("stepz=1", "link: unknown name 'stepz'"),
        ("image.colour=red", "link: unknown name 'image.colour'"),
        ("image.as=king", "config.link.given.image.role: expected one of"),
        ("x" * (MAX_LINK + 1), f"link: longer than {MAX_LINK} characters"),
    ],
)
def test_a_link_of_another_form_is_refused(query, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        from_query(query)


GOOD = Setting(("image",), {"text": Use(text="a red seven")}, {"image": 3.0}, 25, 7, 4)


def changed(**fields):
    return dataclasses.replace(GOOD, **fields)


@pytest.mark.parametrize(
    "setting, message",
    [
        (changed(n=9), "n: expected 1 to 8, got 9"),
        (changed(n=0), "n: expected 1 to 8, got 0"),
        (changed(steps=101), "steps: expected 1 to 100, got 101"),
        (changed(seed=-1), "seed: expected 0 to"),
        (changed(to=("image", "image")), "an output is named twice"),
        (changed(to=("imgae",)), "no modality 'imgae' (did you mean image?); there are text, image, audio, video"),
        (changed(to=()), "nothing to generate; tick some of text, image, audio, video"),
        (changed(guidance={"image": float("nan")}), "guidance of image: expected 0 to 30, got nan"),
        (changed(guidance={"sound": 1.0}), "no modality 'sound'"),
        (changed(given={"text": Use(text="x" * 1001)}), "text: 1001 characters; at most 1000"),
        (changed(given={"text": Use(text="  ")}), "text: it is empty"),
        (changed(given={"text": Use(text="\ud800")}), "text: it holds half of a character"),
        (changed(given={"image": Use(weight=2.0)}), "weight of image: expected 0 to 1, got 2"),
        (changed(given={"image": Use("change", strength=0.0)}), "strength of image: expected 0.01 to 1, got 0"),
        (changed(given={"video": Use("part", keep="0" * 2000)}), "video: what is kept is given in more than 1000"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(setting, message):
    check(GOOD, NAMES, Limits())
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(setting, NAMES, Limits())


def test_what_is_kept_is_an_output_by_itself():
    check(changed(to=(), given={"video": Use("part", keep="0")}), NAMES, Limits())


def test_limits_are_positive():
    with pytest.raises(ConfigError, match="steps: expected a positive limit, got 0"):
        Limits(steps=0)
