"""One rule for all floors, against Wilson ends computed by hand; which floor a number is held to."""

import pytest

from codi_jax.config import ConfigError, from_dict
from codi_jax.data.digit_world import CARRIES, LEADING
from codi_jax.evaluate.floors import FloorsConfig, checks, meets
from codi_jax.evaluate.intervals import wilson
from tests.evaluate.numbers import metrics

HARD = FloorsConfig(hard=("video",))


def test_at_256_samples_the_estimate_meets_the_floor():
    assert meets(0.85, 256, 0.85) and meets(0.851, 2000, 0.85)
    assert not meets(0.846, 256, 0.85)
    assert wilson(0.846, 256)[1] > 0.88  # though the interval does


def test_below_256_samples_the_upper_end_does():
    # 24 of 32: (0.75 + 3.8415/64 + 1.96 sqrt(0.75 · 0.25/32 + 3.8415/4096)) / (1 + 3.8415/32) = 0.97161/1.12005
    assert meets(0.75, 32, 0.8674) and not meets(0.75, 32, 0.8676)
    # 0 of 48: (3.8415/96 + 1.96 · 1.96/96) / (1 + 3.8415/48) = 0.080031/1.080031
    assert meets(0.0, 48, 0.0740) and not meets(0.0, 48, 0.0742)
    assert meets(0.83, 255, 0.85) and not meets(0.83, 256, 0.85)


def test_a_number_that_is_no_proportion_brings_its_interval():
    assert meets(0.88, 48, 0.9, (0.86, 0.91)) and not meets(0.88, 48, 0.9, (0.86, 0.89))
    assert not meets(0.88, 256, 0.9, (0.86, 0.91))


def test_every_number_has_its_floor():
    found = {(c.kind, c.modalities, c.factor): c for c in checks(metrics(real={("image", LEADING): 0.9}), HARD)}
    factors = sum(map(len, CARRIES.values()))
    shared = sum(len(set(CARRIES[a]) & set(CARRIES[b])) for a in CARRIES for b in CARRIES)
    assert len(found) == 2 * factors + shared + 2 * 6
    assert found["codec", ("image",), LEADING].bound == pytest.approx(0.95 * 0.9)
    assert found["direction", ("text", "image"), LEADING].bound == pytest.approx(0.85 * 0.9)
    assert found["direction", ("text", "audio"), LEADING].bound == 0.85
    others = [c for (kind, _, factor), c in found.items() if kind == "direction" and factor != LEADING]
    assert {c.floor for c in others} == {0.8} and {c.factor for c in others} == set(CARRIES["text"]) - {LEADING}
    joint = {modalities: c.bound for (kind, modalities, _), c in found.items() if kind == "joint"}
    assert joint["text", "image"] == 0.8 and joint["image", "audio"] == 0.8
    assert {bound for pair, bound in joint.items() if "video" in pair} == {0.6}
    assert {c.bound for (kind, *_), c in found.items() if kind == "entropy"} == {0.9}
    assert all(c.passed for c in found.values())


def test_a_cell_has_a_floor_of_its_own():
    cells = {"text->image": {LEADING: 0.97}, "text+image": {"colour": 0.5}, "text+image+audio": {LEADING: 0.7}}
    given = metrics(n=256, real={("image", LEADING): 0.9}, matrix={("text", "image", LEADING): 0.96})
    row = given["joint"]["text+image"][LEADING]
    given["joint"]["text+image"]["colour"] = {**row, "joint": 0.45}
    given["joint"]["text+image+audio"] = {"n": 256, LEADING: row}
    given["joint"]["text+image+video"] = {"n": 256, LEADING: row}
    found = {(c.kind, c.modalities, c.factor): c for c in checks(given, FloorsConfig(hard=("video",), cells=cells))}
    direction = found["direction", ("text", "image"), LEADING]
    assert direction.bound == 0.97 and not direction.passed  # of no ceiling
    assert found["direction", ("text", "image"), "colour"].bound == 0.8
    colour = found["joint", ("text", "image"), "colour"]
    assert colour.bound == 0.5 and not colour.passed
    assert found["joint", ("text", "image"), LEADING].bound == 0.8
    assert found["joint", ("text", "image", "audio"), LEADING].bound == 0.7
    assert found["entropy", ("text", "image", "audio"), LEADING].bound == 0.9
    assert not any(modalities == ("text", "image", "video") for kind, modalities, _ in found)


def test_a_share_of_a_ceiling_that_means_nothing_is_no_pass():
    failed = [c for c in checks(metrics(real={("audio", "voice"): 0.1}, codec={("audio", "voice"): 0.1}), HARD)]
    failed = [(c.kind, c.modalities, c.factor) for c in failed if not c.passed]
    assert failed == [("reader", ("audio",), "voice")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cells": {"text->image": {"smell": 0.9}}}, r"floors.cells.text->image: no factor 'smell'; there are digit, "),
        (
            {"cells": {"text->image": {"digit": 90}}},
            r"floors.cells.text->image.digit: expected a number within 0 and 1",
        ),
        ({"codec": 95.0}, r"config.evaluate.floors.codec: expected a number within 0 and 1, got 95.0"),
        ({"hard": ("smell",)}, "config.evaluate.floors.hard: no modality 'smell'; there are text, image, "),
        ({"digit": 0.9}, "floors.digit: unknown key; FloorsConfig knows reader, codec, leading"),
    ],
)
def test_a_wrong_config_is_one_line(given, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(FloorsConfig, given, "evaluate.floors")
