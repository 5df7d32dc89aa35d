"""The best and worst single outputs: chosen by the judge from all directions, with how many are like them."""

from types import SimpleNamespace

import numpy as np

from codi_jax.digit_world.report.cases import ExtremeCase, extremes, strip

NAMES = ["text", "image", "audio"]
REAL = {"digit": np.array([4, 5, 6]), "colour": np.array([0, 1, 2]), "voice": np.array([0, 0, 1])}
READ = {
    "text->image": {"digit": np.array([4, 5, 0]), "colour": np.array([0, 0, 0])},  # 2, 1 and 0 of 2 right
    "audio->image": {"digit": np.array([4, -1, -1])},  # 1, 0 and 0 of 1
    "image->text": {"digit": np.array([4, 5, 6]), "colour": np.array([0, 1, 2]), "voice": np.array([1, 1, 0])},
}


def make_samples():
    values = {name: np.array([f"{name} {i}" for i in range(3)]) for name in NAMES}
    return {
        "real": {"seen": {"values": values, "factors": REAL}},
        "matrix": {
            title: {"values": np.array([f"{title} {i}" for i in range(3)]), "read": read}
            for title, read in READ.items()
        },
    }


def test_the_extremes_of_an_output_are_over_all_its_directions():
    best, worst = extremes(NAMES, make_samples(), "image")
    assert best == ExtremeCase(
        "text", "image", 0, right=2, of=2, like=1, outputs=6
    )  # two factors right are more than one
    assert worst == ExtremeCase("text", "image", 2, right=0, of=2, like=1, outputs=6)  # two wrong are more than one
    one = make_samples()
    del one["matrix"]["text->image"]
    assert extremes(NAMES, one, "image")[1] == ExtremeCase(
        "audio", "image", 1, right=0, of=1, like=2, outputs=3
    )  # the first


def test_only_factors_that_the_prompt_shows_count():
    best, worst = extremes(NAMES, make_samples(), "text")
    assert best == ExtremeCase(
        "image", "text", 0, right=2, of=2, like=3, outputs=3
    )  # the wrong voice was not asked for
    assert worst.right == 2  # the honest worst of a perfect direction is right
    assert extremes(NAMES, make_samples(), "audio") is None


def test_the_strip_shows_prompt_output_and_reading_and_escapes_them():
    html_of = SimpleNamespace
    codi = {name: html_of(name=name, html=lambda value: f'<img alt="" data-value="{value}">') for name in NAMES}
    html = strip(codi, NAMES, make_samples())
    assert html.index("Best cases") < html.index("Worst cases")
    first = html[: html.index("</li>")]
    assert 'alt="prompt image: four, red"' in first and 'data-value="image 0"' in first
    assert 'alt="generated text, read as four, red"' in first and 'data-value="image->text 0"' in first
    assert "✓ four, red" in first and "2 of 2 right; like it 3 of 3" in first
    assert "asked" not in first and "asked: six, blue" in html
    assert "✗ zero, red" in html and "0 of 2 right; like it 1 of 6" in html
    assert html.count("<li>") == 4


def test_without_directions_there_is_no_strip():
    assert strip({}, NAMES, {"real": {}}) is None and strip({}, NAMES, {"matrix": {}}) is None
