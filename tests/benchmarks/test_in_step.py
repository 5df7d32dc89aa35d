"""The benchmark of synchrony: shares by hand, and a picture that is a file of SVG."""

import xml.etree.ElementTree as ElementTree

import numpy as np

from benchmarks import in_step


def test_shares_within_a_frame_by_hand():
    audio = np.array([0.5, 0.5, 0.5, np.nan])
    video = np.array([0.5625, 0.625, 0.75, 0.5])  # half a frame, a frame, two frames; unread
    row = in_step.row((audio, video))
    assert row["same frame"] == 0.25 and row["one frame"] == 0.5 and row["unread"] == 0.25 and row["n"] == 4
    within = dict(map(tuple, row["within"]))
    assert [within[t] for t in (0.0, 0.05, 0.075, 0.125, 0.25, 1.0)] == [0, 0, 0.25, 0.5, 0.75, 0.75]
    low, high = row["intervals"]["one frame"]
    assert low < 0.5 < high


def test_the_table_and_the_picture_show_all_rows():
    times = np.array([0.1, 0.4]), np.array([0.1, 0.9])
    rows = {kind: in_step.row(times) for kind in ("joint", "shuffled", "independent", "still")}
    models = {name: {**rows, "digit": 1.0, "digit interval": [0.3, 1.0]} for name in ("pooled", "timed")}
    text = in_step.to_text(models)
    assert text.count("independent") == 2 and "0.500 (0.09 to 0.91)" in text
    root = ElementTree.fromstring(in_step.picture(models))
    assert root.tag.endswith("svg") and len(root.findall("{*}path")) == 3
