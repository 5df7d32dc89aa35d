"""Heat maps: a cell for each number, dark ones with light numbers, and names that fit."""

import xml.etree.ElementTree as ElementTree

from codi_jax.report.heat import HeatMap, heat_maps, shade
from codi_jax.report.svg import as_file


def test_a_heat_map_has_a_cell_for_each_number():
    maps = [
        HeatMap("one", ["a", "b"], ["c", "d"], [[0.25, None], [1.0, -0.5]]),
        HeatMap("two", ["a"], ["c"], [[-0.001]]),
    ]
    root = ElementTree.fromstring(heat_maps([maps], "two maps"))
    fills = [rect.get("fill") for rect in root.iter("rect")]
    assert fills == [shade(value)[0] for value in (0.25, 1.0, -0.5, -0.001)] and fills[2] == fills[3]
    texts = {text.text: text.get("class") for text in root.iter("text")}
    assert texts[".25"] == "tick" and texts["1.00"] == "tick light" and texts["-.50"] == texts[".00"] == "tick"
    assert texts["one"] == "name" and root.find("title").text == "two maps"
    width, height = float(root.get("width")), float(root.get("height"))
    for rect in root.iter("rect"):
        assert 0 < float(rect.get("x")) + 39 <= width and 0 < float(rect.get("y")) + 39 <= height


def test_small_cells_have_no_numbers():
    root = ElementTree.fromstring(heat_maps([[HeatMap("a", [""], [""], [[0.5]])]], "small", cell=12))
    assert [text.text for text in root.iter("text") if text.text] == ["a"]


def test_a_file_has_its_namespace_and_style():
    root = ElementTree.fromstring(
        as_file(heat_maps([[HeatMap("a", ["b"], ["c"], [[1.0]])]], "t"), ".text{stroke:#333}")
    )
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert ".text{stroke:#333}" in root.find("{*}style").text and "background:#fff" in root.find("{*}style").text
