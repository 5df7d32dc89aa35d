"""Values of a row: nested ones, several columns, and texts made of columns."""

import pytest

from codi_jax.config import ConfigError
from codi_jax.data.columns import Column

ROW = {
    "id": "--PJHxphWEs", "start": "30.000", "n": 7, "big": 12345678901234567, "clock": "00:01:30.5", "empty": "",
    "none": None, "labels": ["Speech", "Music"], "nested": {"raw": "a cat"}, "sentences": [{"raw": "a"}, {"raw": "b"}],
    "a/b": "whole", "x.y": "dotted",
}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("id", "--PJHxphWEs"),
        ("absent", None),
        ("nested/raw", "a cat"),
        ("sentences/raw", ["a", "b"]),
        ("labels/raw", []),
        ("n/raw", None),
        ("a/b", "whole"),
        (("id", "empty", "absent", "labels"), ["--PJHxphWEs", "Speech", "Music"]),
        ("{id}_{start:.0f}.wav", "--PJHxphWEs_30.wav"),
        ("{start:06d}-{n:03d}-{big:d}", "000030-007-12345678901234567"),
        ("{start:ms}_{clock:ms}_{n:08ms}", "30000_90500_00007000"),
        ("the sound of {labels}", "the sound of Speech, Music"),
        ("{sentences/raw}", "a, b"),
        ("{id:>13s}|{{x}}", "  --PJHxphWEs|{x}"),
        ("{empty}.jpg", None),
        ("{none}.jpg", None),
        ("{x.y}", "dotted"),
    ],
)
def test_the_value_of_a_column(spec, value):
    assert Column(spec)(ROW) == value


@pytest.mark.parametrize(
    "spec", ["{id", "id}", "{}", "{id!r}", "{start:{n}}", "{n:9999d}", "{n:x}", "{n:,}", "{start:%}"]
)
def test_a_text_of_another_form(spec):
    with pytest.raises(ConfigError, match=r"^column ") as error:
        Column(spec)
    assert "\n" not in str(error.value)


def test_a_column_has_no_attributes_and_no_items():
    for spec in ("{id.__class__}", "{labels[0]}"):
        column = Column(spec)
        assert column(ROW) is None and column.names == (spec[1:-1],)


@pytest.mark.parametrize("spec", ["{id:06d}", "{id:.0f}", "{id:ms}", "{clock:d}", "{labels:d}"])
def test_a_value_that_its_format_cannot_write(spec):
    with pytest.raises(ValueError, match=r"is not what the format '.*' writes: "):
        Column(spec)(ROW)
    with pytest.raises(ValueError, match="start is not what"):
        Column("{start:d}")({"start": 30.5})
