"""Sections on synchrony, diversity and memorisation: all numbers, in order, and none of what was not measured."""

import json
import re

from codi_jax.digit_world.benchmark import tables
from codi_jax.digit_world.benchmark.order import in_order
from codi_jax.digit_world.card import _measures, _numbers
from codi_jax.digit_world.report.measures import sections


def pair(share, unread=0.0):
    bounds = {"same_frame_interval": [share - 0.01, share + 0.01], "offset_interval": None}
    return {"n": 8, "same_frame": share, "adjacent_frame": 0.9, "offset_ms": 12.3, "unread": unread, **bounds}


CHANCE = {"same_frame": 0.167, "adjacent_frame": 0.444, "offset_ms": None, "unread": 0.0}
ROW = {"n": 8, "median": 5.125, "ratio": 0.925, "near_1": 0.011, "near_5": 0.055}
METRICS = {
    "n": 8,
    "sync": {
        "real": pair(0.991),
        "codec": pair(0.951),
        "sets": {
            "audio+video": {
                **{"joint": pair(0.812), "independent": pair(0.151)},
                **{"shuffled": pair(0.16), "chance": CHANCE},
            }
        },
        "prompted": {"audio->video": {"prompted": pair(0.773, 0.125), "ceiling": pair(1.0), "chance": CHANCE}},
    },
    "diversity": {"image": {"text->image": {"n": 7, "diversity": 0.875, "distance": 7.0, "real": 8.0}}},
    "memorisation": {
        "image": {"training": 10_000, "outputs": {"real": {**ROW, "ratio": 1.0}, "independent": ROW}},
        "text": {"training": 25_000, "outputs": {"real": {"n": 8, "verbatim": 0.031, "interval": [0.0, 0.325]}}},
    },
}  # fmt: skip
OLD = {"n": 8, "matrix": {}, "joint": {}, "sync": {"audio+video": {"motion": {"joint": 0.5}}}}  # of earlier versions


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_every_measure_has_a_section_in_the_order_of_the_evaluation():
    metrics = in_order(json.loads(json.dumps(METRICS, sort_keys=True)))
    found = sections(metrics)
    assert [title for _, title, *_ in found] == ["In step", "Diversity within a digit", "Memorisation"]
    step, diverse, memory = (text_of(html) for *_, html in found)
    for line in (
        "real 0.991 0.981 to 1.001 0.900 12 0.000",
        "real after the codec 0.951",
        "audio + video together 0.812",
    ):
        assert line in step, line
    assert "audio + video chance 0.167 – 0.444 – 0.000" in step
    assert step.index("together") < step.index("alone") < step.index("shuffled") < step.index("audio → video with its")
    assert "image text → image 0.875 7.000 8.000 7" in diverse
    assert "image alone 5.125 0.925 0.011 0.055 10,000" in memory and "real 0.031 0.000 to 0.325 8" in memory


def test_a_file_without_the_measures_has_no_sections():
    assert sections(OLD) == [] and sections({}) == []
    assert _measures(_numbers(OLD)) == []


def test_the_tables_have_a_row_for_each_number():
    shown = (tables._sync(METRICS["sync"]), tables._diversity(METRICS["diversity"]))
    lines = [line.split() for text in (*shown, tables._memory(METRICS["memorisation"])) for line in text.splitlines()]
    assert ["audio->video", "prompted", "0.773", "0.763-0.783", "0.900", "12", "0.125"] in lines
    assert ["audio+video", "chance", "0.167", "0.444", "-", "0.000"] in lines
    assert ["image", "text->image", "0.875", "7.000", "8.000", "7"] in lines
    assert ["image", "independent", "5.125", "0.925", "0.011", "0.055", "-"] in lines
    assert ["text", "real", "-", "-", "-", "-", "0.031"] in lines


def test_the_card_has_two_lines():
    metrics = {**METRICS, "matrix": {}, "joint": {}}
    assert _measures(_numbers(metrics)) == [
        "Click of the audio in the frame of the video's bounce, generated together: audio+video 0.812 (alone 0.151).",
        "",
        "Median distance to the nearest training sample, over that of real samples: image independent 0.93.",
        "",
    ]
