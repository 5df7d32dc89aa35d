"""The verdict: causes before consequences, in at most five lines of text."""

import pytest

from codi_jax.digit_world import CARRIES
from codi_jax.digit_world.benchmark.floors import FloorsConfig
from codi_jax.digit_world.benchmark.verdict import verdict
from tests.digit_world.benchmark.numbers import metrics

FLOORS = FloorsConfig(hard=("video",))
NAMES = tuple(CARRIES)


def of(**given):
    result = verdict(metrics(**given), FLOORS)
    assert 1 <= len(result.lines) <= 5 and str(result).splitlines() == list(result.lines)
    return result


def test_a_pass_names_the_worst_metrics():
    result = of(
        n=256,
        real={("image", "digit"): 0.9},
        codec={("image", "digit"): 0.88},
        matrix={("image", "audio", "digit"): 0.86},
        joint={("audio", "video"): 0.62},
        entropy={("text", "image"): 0.95},
    )
    assert result.passed
    head, codecs, directions, joint = result.lines
    assert head.startswith("The model meets its floors: all of ") and head.endswith(" checks pass (n = 256).")
    assert codecs == "Codecs preserve the factors: the lowest is image, digit 0.98 of the ceiling (floor 0.95)."
    assert directions == (
        "Outputs follow their prompts: the lowest is image → audio, digit 0.86 of the ceiling (floor 0.85)."
    )
    assert joint == (
        "Outputs generated together agree: the lowest are audio and video, the same digit in 0.62 (floor 0.60)."
    )


def test_a_small_sample_names_its_rule():
    assert "upper ends of the 95 % intervals" in of(n=48).lines[0]


def test_a_codec_that_loses_the_digit_is_named_and_its_consequences_are_counted():
    """No caption keeps its digit, so all directions to text fail, too."""
    result = of(
        codec={("text", "digit"): 0.0, ("image", "digit"): 27 / 48, ("image", "colour"): 16 / 48},
        matrix={(a, b, "digit"): 0.1 for a in NAMES for b in ("text", "image")},
        joint={("text", "image"): 0.1, ("text", "audio"): 0.1},
        entropy={("text", "image"): 0.2},
    )
    assert not result.passed
    head, cause = result.lines
    assert "3 fail and 11 more as a consequence" in head
    assert cause == (
        "text cannot name the digit: its codec preserves 0 of 48 samples (real samples: 48; floor 0.95 of that); image "
        "cannot show the digit and colour: its codec preserves 27 and 16 of 48 samples (real samples: 48; floor 0.95 "
        "of that)."
    )


def test_a_reader_below_its_floor_comes_first():
    result = of(
        real={("video", "motion"): 0.2},
        codec={("video", "motion"): 0.0},
        matrix={(a, "video", "motion"): 0.0 for a in NAMES if "motion" in CARRIES[a]},
    )
    assert not result.passed and "1 fails and 4 more as a consequence" in result.lines[0]
    assert result.lines[1] == (
        "video cannot be measured: its reader reads the motion of real samples correctly in 10 of 48 (floor 0.50)."
    )
    assert result.lines[2].startswith("Codecs preserve") is False


def test_a_failure_of_all_prompts_of_an_output_is_one_sentence():
    into = {(a, "audio", "motion"): 0.3 for a in NAMES if "motion" in CARRIES[a]}
    result = of(matrix=into | {("text", "audio", "motion"): 0.4})
    assert result.lines[2] == (
        "audio does not follow its prompts in the motion: at best 0.40 of the ceiling (floor 0.80)."
    )


def test_a_failure_of_all_outputs_of_a_prompt_is_one_sentence():
    result = of(matrix={("video", b, "digit"): 0.5 for b in NAMES})
    assert result.lines[2] == "prompts of video do not convey the digit: at best 0.50 of the ceiling (floor 0.85)."


def test_a_single_direction_and_a_single_pair_are_named():
    result = of(matrix={("image", "audio", "digit"): 0.25}, joint={("text", "video"): 0.25}, entropy={NAMES[:2]: 0.5})
    codecs, direction, joint = result.lines[1:]
    assert codecs.startswith("Codecs preserve the factors")
    assert direction == "image → audio misses the digit: correct in 12 of 48 (real samples: 48; floor 0.85 of that)."
    assert joint == (
        "text and video generated together show the same digit in 12 of 48 samples (floor 0.60); text and image "
        "generated together show few different values of the digit: entropy 0.50 (floor 0.90)."
    )


def test_a_pair_whose_output_shows_the_digit_for_no_prompt_is_a_consequence():
    result = of(matrix={(a, "audio", "digit"): 0.2 for a in NAMES}, joint={("text", "audio"): 0.2})
    assert "4 fail and 1 more as a consequence" in result.lines[0] and len(result.lines) == 3
    assert result.lines[2].startswith("audio does not follow its prompts in the digit")


@pytest.mark.parametrize("names", [("text",), ("text", "image")])
def test_a_model_of_fewer_modalities(names):
    result = of(names=names)
    assert result.passed and len(result.lines) == 2 + len(names)


def test_many_failures_are_at_most_five_lines():
    bad = {(m, f): 0.1 for m in NAMES for f in CARRIES[m]}
    every = {(a, b, f): 0.3 for a in NAMES for b in NAMES for f in CARRIES[b]}
    pairs = {(a, b): 0.1 for a in NAMES for b in NAMES}
    for given in ({"real": bad}, {"codec": bad}, {"matrix": every, "joint": pairs, "entropy": pairs}):
        assert not of(**given).passed
    more = of(joint=pairs, entropy=pairs)
    assert more.lines[-1].endswith("; and 10 more.")


def test_the_mean_of_the_combinations_is_named():
    mean = {"cells": 225, "n": 32, "digit": 0.8125, "interval": [0.7, 0.84], "clusters": 32, "n_effective": 40.0}
    said = verdict({**metrics(n=256), "combinations_mean": mean}, FloorsConfig())
    assert not said.passed and len(said.lines) == 4
    assert (
        "every set of prompts to every set of outputs: the digit is right in 0.812 on average (floor 0.85)."
        in said.lines[2]
    )
    mean["interval"] = [0.7, 0.86]
    assert verdict({**metrics(n=256), "combinations_mean": mean}, FloorsConfig()).passed
