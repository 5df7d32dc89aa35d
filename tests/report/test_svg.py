"""Plots: ticks at round numbers, marks inside the picture."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from codi_jax.report.svg import bars, curve, decades, smooth, ticks


def test_ticks_are_round_and_inside():
    assert ticks(0, 1000, 4) == [0, 250, 500, 750, 1000]
    assert ticks(0.13, 0.92, 4) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert ticks(2, 2) == [2]
    assert decades(-1.1, 1.0) == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5, 10])
    assert decades(-3, 1) == pytest.approx([1e-3, 1e-2, 0.1, 1, 10])


def test_smoothing_keeps_a_line_and_its_ends():
    line = [(float(x), 3.0 * x) for x in range(20)]
    for (x, y), (u, v) in zip(smooth(line, 4), line, strict=True):
        assert x == u and y == pytest.approx(v)


@pytest.mark.parametrize(
    "points",
    [
        [(1, 0.5)],
        [(i, 100.0 / i**2) for i in range(1, 50)],  # logarithmic
        [(i, -1.0 + 0.01 * i) for i in range(1, 50)],  # negative
        [(i, 2.0) for i in range(1, 5)],  # flat
    ],
)
def test_curves_stay_inside(points):
    svg = curve(points, "loss of <stage>", 300, 200)
    tree = ElementTree.fromstring(svg)
    assert tree.find("title").text == "loss of <stage>"
    for path in tree.iter("path"):
        xy = [float(x) for x in re.findall(r"-?[\d.]+", path.get("d"))]
        assert all(0 <= x <= 300 for x in xy[::2]) and all(0 <= y <= 200 for y in xy[1::2])


def test_bars_are_as_long_as_their_values():
    svg = bars([("pair", [("joint", 0.8, "a"), ("alone", 0.1, "b")], 0.1)], "t")
    one, two = [float(r.get("width")) for r in ElementTree.fromstring(svg).iter("rect")]
    assert one / two == pytest.approx(8)
    assert "0.80" in svg and "chance 0.10" in svg
