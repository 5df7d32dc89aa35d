"""Plots of the report are labelled correctly for any order of the metrics file."""

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
    assert f"<h3>{first} against {second} → image</h3>" in html
    lines = re.findall(r'<path d="M([^"]+)" class="line (\w)"', html)
    assert [class_ for _, class_ in lines] == ["a", "b"]
    heights = [[float(point.split(",")[1]) for point in path.split("L")] for path, _ in lines]
    falls, rises = (y[-1] - y[0] for y in heights)
    assert falls > 0 > rises  # y points down
    ends = {name: float(y) for y, name in re.findall(r'y="([\d.]+)" class="label"[^>]*>(\w+)</text>', html)}
    assert ends[second] < ends[first]  # each name is at the end of its line
