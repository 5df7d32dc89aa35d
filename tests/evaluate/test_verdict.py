"""The verdict: causes before what follows from them, plain words, five lines at most."""

import pytest

from codi_jax.data.digit_world import CARRIES
from codi_jax.evaluate.floors import FloorsConfig
from codi_jax.evaluate.verdict import verdict
from tests.evaluate.numbers import metrics

FLOORS = FloorsConfig(hard=("video",))
NAMES = tuple(CARRIES)


def of(**given):
    found = verdict(metrics(**given), FLOORS)
    assert 1 <= len(found.lines) <= 5 and str(found).splitlines() == list(found.lines)
    return found


def test_a_pass_is_said_with_numbers():
    found = of(
        n=256,
        real={("image", "digit"): 0.9},
        codec={("image", "digit"): 0.88},
        matrix={("image", "audio", "digit"): 0.86},
        joint={("audio", "video"): 0.62},
        entropy={("text", "image"): 0.95},
    )
    assert found.passed
    head, codecs, directions, joint = found.lines
    assert head.startswith("The model meets its floors: all of ") and head.endswith(" checks pass (n = 256).")
    assert codecs == "Codecs keep what they encode: the lowest is image, digit 0.98 of the ceiling (floor 0.95)."
    assert directions == (
        "Outputs show what their prompts say: the lowest is image → audio, digit 0.86 of the ceiling (floor 0.85)."
    )
    assert joint == (
        "Outputs generated together agree: the lowest are audio and video, the same digit in 0.62 (floor 0.60)."
    )


def test_a_small_sample_says_by_which_rule():
    assert "upper ends of the 95 % intervals" in of(n=48).lines[0]


def test_a_codec_that_loses_the_digit_is_named_before_all_that_follows():
    """The demo of old: 0 of 48 captions kept their digit, and no direction into text named one."""
    found = of(
        codec={("text", "digit"): 0.0, ("image", "digit"): 27 / 48, ("image", "colour"): 16 / 48},
        matrix={(a, b, "digit"): 0.1 for a in NAMES for b in ("text", "image")},
        joint={("text", "image"): 0.1, ("text", "audio"): 0.1},
        entropy={("text", "image"): 0.2},
    )
    assert not found.passed
    head, cause = found.lines
    assert "3 fail and 11 more as a consequence" in head
    assert cause == (
        "text cannot name the digit: its codec keeps 0 of 48 samples (real ones: 48; floor 0.95 of that); image cannot "
        "show the digit and colour: its codec keeps 27 and 16 of 48 samples (real ones: 48; floor 0.95 of that)."
    )


def test_a_reader_that_reads_nothing_comes_first_of_all():
    found = of(
        real={("video", "motion"): 0.2},
        codec={("video", "motion"): 0.0},
        matrix={(a, "video", "motion"): 0.0 for a in NAMES if "motion" in CARRIES[a]},
    )
    assert not found.passed and "1 fails and 4 more as a consequence" in found.lines[0]
    assert found.lines[1] == (
        "video cannot be measured: its reader reads the motion of real samples right in 10 of 48 (floor 0.50)."
    )
    assert found.lines[2].startswith("Codecs keep") is False


def test_what_all_prompts_of_an_output_share_is_said_once():
    into = {(a, "audio", "motion"): 0.3 for a in NAMES if "motion" in CARRIES[a]}
    found = of(matrix=into | {("text", "audio", "motion"): 0.4})
    assert found.lines[2] == (
        "audio does not follow its prompts in the motion: at best 0.40 of the ceiling (floor 0.80)."
    )


def test_what_all_outputs_of_a_prompt_share_is_said_once():
    found = of(matrix={("video", b, "digit"): 0.5 for b in NAMES})
    assert found.lines[2] == "prompts of video do not tell the digit: at best 0.50 of the ceiling (floor 0.85)."


def test_one_direction_alone_and_a_pair_alone():
    found = of(matrix={("image", "audio", "digit"): 0.25}, joint={("text", "video"): 0.25}, entropy={NAMES[:2]: 0.5})
    codecs, direction, joint = found.lines[1:]
    assert codecs.startswith("Codecs keep what they encode")
    assert direction == "image → audio misses the digit: right in 12 of 48 (real ones: 48; floor 0.85 of that)."
    assert joint == (
        "text and video generated together show the same digit in 12 of 48 samples (floor 0.60); text and image "
        "generated together show few different values of the digit: entropy 0.50 (floor 0.90)."
    )


def test_a_pair_whose_output_shows_the_digit_for_no_prompt_is_a_consequence():
    found = of(matrix={(a, "audio", "digit"): 0.2 for a in NAMES}, joint={("text", "audio"): 0.2})
    assert "4 fail and 1 more as a consequence" in found.lines[0] and len(found.lines) == 3
    assert found.lines[2].startswith("audio does not follow its prompts in the digit")


@pytest.mark.parametrize("names", [("text",), ("text", "image")])
def test_a_model_of_fewer_modalities(names):
    found = of(names=names)
    assert found.passed and len(found.lines) == 2 + len(names)


def test_however_much_fails_it_is_five_lines():
    bad = {(m, f): 0.1 for m in NAMES for f in CARRIES[m]}
    every = {(a, b, f): 0.3 for a in NAMES for b in NAMES for f in CARRIES[b]}
    pairs = {(a, b): 0.1 for a in NAMES for b in NAMES}
    for given in ({"real": bad}, {"codec": bad}, {"matrix": every, "joint": pairs, "entropy": pairs}):
        assert not of(**given).passed
    more = of(joint=pairs, entropy=pairs)
    assert more.lines[-1].endswith("; and 10 more.")
