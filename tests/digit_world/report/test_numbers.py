"""Plots and tiles of the report are labelled correctly for any order of the metrics file."""

import json
import re

import pytest

from codi_jax.digit_world.report import numbers

WEIGHTS = [0.0, 0.5, 1.0]


@pytest.mark.parametrize("title", ["text|image->image", "image|text->image"])
def test_a_mix_curve_goes_from_its_first_prompt_to_its_second(title):
    first, second = title.split("->")[0].split("|")
    curve = {"weights": WEIGHTS, "digit": {first: [0.9, 0.5, 0.1], second: [0.1, 0.4, 0.8]}}
    html = numbers.mix_curves(json.loads(json.dumps({title: curve}, sort_keys=True)), "")
    assert f"<h4>{first} against {second} → image</h4>" in html
    lines = re.findall(r'<path d="M([^"]+)" class="line (\w)"', html)
    assert [class_ for _, class_ in lines] == ["a", "b"]
    heights = [[float(point.split(",")[1]) for point in path.split("L")] for path, _ in lines]
    falls, rises = (y[-1] - y[0] for y in heights)
    assert falls > 0 > rises  # y points down
    ends = {name: float(y) for y, name in re.findall(r'y="([\d.]+)" class="label"[^>]*>(\w+)</text>', html)}
    assert ends[second] < ends[first]  # each name is at the end of its line


def joint(trained, **factors):
    row = {"joint": 0.5, "independent": 0.1, "shuffled": 0.1, "chance": 0.25}
    return {"n": 8, "trained": trained, **{factor: {**row, "joint": rate} for factor, rate in factors.items()}}


def test_every_set_of_outputs_has_a_tile():
    sets = {
        "text+image": joint(True, digit=0.91),
        "text+image+video": joint(False, digit=0.42, colour=0.3),
        "audio+video": joint(False, motion=0.63),
    }
    html = numbers.headline({"matrix": {}, "held_out": {}, "joint": sets})
    tiles = re.findall(r'<div class="value">([\d.]+)</div><div class="title">([^<]+)</div><div class="note">', html)
    assert tiles == [
        ("0.91", "text + image agree on the digit"),
        ("0.42", "text + image + video ★ agree on the digit"),
        ("0.63", "audio + video ★ agree on the motion"),
    ]
    assert html.count("★ never trained as a set") == 2
