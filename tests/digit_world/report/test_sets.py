"""The table of sets has a line for every set of outputs, with all controls beside it."""

import re

from codi_jax.digit_world.report.sets import controls


def joint(trained, **factors):
    row = {"joint": 0.5, "interval": [0.4, 0.6], "independent": 0.1, "shuffled": 0.12, "chance": 0.25}
    return {"n": 8, "trained": trained, **{factor: {**row, "joint": rate} for factor, rate in factors.items()}}


SETS = {
    "text+image": joint(True, digit=0.91),
    "text+image+video": joint(False, digit=0.42, colour=0.3),
    "audio+video": joint(False, motion=0.63),
}


def lines(html):
    """The texts of each line."""
    text = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in html.split("<tr>")[1:]]
    return [[re.sub(r"<[^>]+>", "", cell) for cell in line] for line in text]


def test_every_set_of_outputs_has_a_line_with_its_controls():
    assert lines(controls({"joint": SETS}, "")) == [
        ["outputs", "together", "95 % interval", "alone", "shuffled", "chance", "n"],
        ["text + image", "0.910", "0.400 to 0.600", "0.100", "0.120", "0.250", "8"],
        ["text + image + video ★", "0.420", "0.400 to 0.600", "0.100", "0.120", "0.250", "8"],
        ["audio + video ★ (motion)", "0.630", "0.400 to 0.600", "0.100", "0.120", "0.250", "8"],
    ]


def test_outside_judges_come_first_and_what_they_lack_is_not_filled_in():
    read = {"n": 4, "judges": {}, "joint": {"text+image": {"joint": 0.654, "independent": 0.098}}}
    _, first, *_ = lines(controls({"joint": SETS, "pretrained": read}, ""))
    assert first == ["text + image", "0.654 (0.91)", "–", "0.098", "–", "–", "4"]
