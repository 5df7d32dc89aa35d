"""Plots: ticks at round numbers, marks inside the plot, no overlapping labels."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from codi_jax.report.svg import bars, curve, decades, smooth, spread, ticks, unit_curves

PHONE = 358  # px between the margins of a page 390 px wide
SIZES = {"tick": 11, "label": 12.5, "name": 13, "value": 12.5}  # px, of the style sheet


def boxes(svg):
    """(text, left, right, top, bottom) of every label, for letters at least as wide as those of DejaVu Sans."""
    for text in ElementTree.fromstring(svg).iter("text"):
        size, x, y = SIZES[text.get("class")], float(text.get("x")), float(text.get("y"))
        width = len(text.text) * size * (0.68 if text.get("class") in ("name", "value") else 0.6)
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")]
        yield text.text, left, left + width, y - 0.75 * size, y + 0.2 * size


def misplaced_labels(svg):
    """Pairs of labels that overlap, and labels that exceed the plot."""
    _, _, width, height = map(float, ElementTree.fromstring(svg).get("viewBox").split())
    labels = list(boxes(svg))
    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    overlapping = [(a[0], b[0]) for a, b in pairs if a[1] < b[2] and b[1] < a[2] and a[3] < b[4] and b[3] < a[4]]
    return overlapping + [text for text, a, b, c, d in labels if a < -1 or b > width + 1 or c < -1 or d > height + 1]


def test_ticks_are_round_and_inside():
    assert ticks(0, 1000, 4) == [0, 250, 500, 750, 1000]
    assert ticks(0.13, 0.92, 4) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert ticks(2, 2) == [2]
    assert decades(-1.1, 1.0) == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5, 10])
    assert decades(-3, 1) == pytest.approx([1e-3, 1e-2, 0.1, 1, 10])
    assert len(decades(-30, 30)) <= 10


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
        [(i, 10.0 ** -(i % 40)) for i in range(1, 90)],  # over forty powers of ten
        [(i, -0.0001 - 1e-7 * i) for i in range(1, 50)],  # labels of many digits
    ],
)
def test_curves_stay_inside(points):
    svg = curve(points, "loss of <stage>", 300, 200)
    tree = ElementTree.fromstring(svg)
    assert tree.find("title").text == "loss of <stage>"
    assert not misplaced_labels(svg)
    for path in tree.iter("path"):
        xy = [float(x) for x in re.findall(r"-?[\d.]+", path.get("d"))]
        assert all(0 <= x <= 300 for x in xy[::2]) and all(0 <= y <= 200 for y in xy[1::2])


def test_bars_are_as_long_as_their_values():
    svg = bars([("pair", [("joint", 0.8, "a"), ("alone", 0.1, "b")], 0.1)], "t")
    one, two = [float(r.get("width")) for r in ElementTree.fromstring(svg).iter("rect")]
    assert one / two == pytest.approx(8)
    assert "0.80" in svg and "chance 0.10" in svg


def test_labels_do_not_overlap_and_text_keeps_its_size_on_a_phone():
    items = [("together", 1.0, "a"), ("alone", 0.12, "b"), ("shuffled", 0.0, "c")]
    groups = [(name, items, chance) for name, chance in (("digit", 0.1), ("colour", 0.17), ("something", 1.0))]
    for svg in (
        bars(groups, "t"),
        unit_curves([("temperature", [(0, 1), (1, 1)], "a"), ("depth", [(0, 0), (1, 1)], "b")], "t"),
    ):
        assert not misplaced_labels(svg)
        assert float(ElementTree.fromstring(svg).get("width")) <= PHONE


def test_spread_separates_close_coordinates():
    assert spread([10, 12, 40], 15, 100) == [10, 25, 40]
    assert spread([99, 98], 15, 100) == [100, 85]
    assert spread([5.0], 15, 100) == [5.0]
