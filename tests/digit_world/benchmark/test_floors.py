"""The rule of floors against Wilson intervals computed by hand, and the floor of each metric."""

import pytest

from codi_jax.config import ConfigError, from_dict
from codi_jax.digit_world import CARRIES, LEADING
from codi_jax.digit_world.benchmark.floors import ANY, FloorsConfig, checks, meets
from codi_jax.metrics.intervals import wilson
from tests.digit_world.benchmark.numbers import metrics

HARD = FloorsConfig(hard=("video",))


def test_from_256_samples_on_the_estimate_must_reach_the_floor():
    assert meets(0.85, 256, 0.85) and meets(0.851, 2000, 0.85)
    assert not meets(0.846, 256, 0.85)
    assert wilson(0.846, 256)[1] > 0.88  # although the interval reaches the floor


def test_below_256_samples_the_upper_end_of_the_interval_must_reach_the_floor():
    # 24 of 32: (0.75 + 3.8415/64 + 1.96 sqrt(0.75 · 0.25/32 + 3.8415/4096)) / (1 + 3.8415/32) = 0.97161/1.12005
    assert meets(0.75, 32, 0.8674) and not meets(0.75, 32, 0.8676)
    # 0 of 48: (3.8415/96 + 1.96 · 1.96/96) / (1 + 3.8415/48) = 0.080031/1.080031
    assert meets(0.0, 48, 0.0740) and not meets(0.0, 48, 0.0742)
    assert meets(0.83, 255, 0.85) and not meets(0.83, 256, 0.85)


def test_a_given_interval_replaces_the_wilson_interval():
    assert meets(0.88, 48, 0.9, (0.86, 0.91)) and not meets(0.88, 48, 0.9, (0.86, 0.89))
    assert not meets(0.88, 256, 0.9, (0.86, 0.91))


def test_every_metric_has_its_floor():
    every = {(c.kind, c.modalities, c.factor): c for c in checks(metrics(real={("image", LEADING): 0.9}), HARD)}
    factors = sum(map(len, CARRIES.values()))
    shared = sum(len(set(CARRIES[a]) & set(CARRIES[b])) for a in CARRIES for b in CARRIES)
    assert len(every) == 2 * factors + shared + 2 * 6
    assert every["codec", ("image",), LEADING].bound == pytest.approx(0.95 * 0.9)
    assert every["direction", ("text", "image"), LEADING].bound == pytest.approx(0.85 * 0.9)
    assert every["direction", ("text", "audio"), LEADING].bound == 0.85
    others = [c for (kind, _, factor), c in every.items() if kind == "direction" and factor != LEADING]
    assert {c.floor for c in others} == {0.8} and {c.factor for c in others} == set(CARRIES["text"]) - {LEADING}
    joint = {modalities: c.bound for (kind, modalities, _), c in every.items() if kind == "joint"}
    assert joint["text", "image"] == 0.8 and joint["image", "audio"] == 0.8
    assert {bound for pair, bound in joint.items() if "video" in pair} == {0.6}
    assert {c.bound for (kind, *_), c in every.items() if kind == "entropy"} == {0.9}
    assert all(c.passed for c in every.values())


def test_cells_override_the_floors():
    cells = {"text->image": {LEADING: 0.97}, "text+image": {"colour": 0.5}, "text+image+audio": {LEADING: 0.7}}
    changed = metrics(n=256, real={("image", LEADING): 0.9}, matrix={("text", "image", LEADING): 0.96})
    row = changed["joint"]["text+image"][LEADING]
    changed["joint"]["text+image"]["colour"] = {**row, "joint": 0.45}
    changed["joint"]["text+image+audio"] = {"n": 256, LEADING: row}
    changed["joint"]["text+image+video"] = {"n": 256, LEADING: row}
    every = {(c.kind, c.modalities, c.factor): c for c in checks(changed, FloorsConfig(hard=("video",), cells=cells))}
    direction = every["direction", ("text", "image"), LEADING]
    assert direction.bound == 0.97 and not direction.passed  # absolute
    assert every["direction", ("text", "image"), "colour"].bound == 0.8
    colour = every["joint", ("text", "image"), "colour"]
    assert colour.bound == 0.5 and not colour.passed
    assert every["joint", ("text", "image"), LEADING].bound == 0.8
    assert every["joint", ("text", "image", "audio"), LEADING].bound == 0.7
    assert every["entropy", ("text", "image", "audio"), LEADING].bound == 0.9
    assert not any(modalities == ("text", "image", "video") for kind, modalities, _ in every)


def test_the_mean_of_the_combinations_has_a_floor_from_32_prompts_on():
    def found(n, value, high):
        mean = {"cells": 225, "n": n, LEADING: value, "interval": [0.5, high]}
        changed = {**metrics(n=256), "combinations_mean": mean, "combinations": {"text->text": {"n": n}}}
        return [c for c in checks(changed, FloorsConfig(combinations=0.9)) if c.kind == "combinations"]

    assert found(16, 0.1, 0.2) == []
    (check,) = found(32, 0.89, 0.91)  # fewer than 256 prompts: the upper end counts
    assert check.passed and (check.value, check.n, check.bound, check.modalities) == (0.89, 32, 0.9, ANY)
    assert [found(32, 0.85, 0.89)[0].passed, found(256, 0.89, 0.91)[0].passed] == [False, False]
    assert not [c for c in checks(metrics(), FloorsConfig()) if c.kind == "combinations"]


def test_the_upper_end_is_that_of_the_clustered_interval():
    low = metrics(n=48, matrix={("image", "text", LEADING): 0.7})
    row = low["matrix"]["image->text"]["factors"][LEADING]
    direction = [c for c in checks(low, HARD) if c.kind == "direction" and not c.passed]
    assert [c.modalities for c in direction] == [("image", "text")]
    row["interval"] = [0.4, 0.9]  # of samples that share glyphs
    assert all(c.passed for c in checks(low, HARD))
    low["codec"]["image"]["factors"][LEADING] |= {"ceiling": 0.3, "accuracy": 0.3, "ceiling_interval": [0.2, 0.6]}
    assert [c.passed for c in checks(low, HARD) if (c.kind, c.modalities) == ("reader", ("image",))] == [True, True]


def test_a_reader_below_its_floor_fails():
    failed = [c for c in checks(metrics(real={("audio", "voice"): 0.1}, codec={("audio", "voice"): 0.1}), HARD)]
    failed = [(c.kind, c.modalities, c.factor) for c in failed if not c.passed]
    assert failed == [("reader", ("audio",), "voice")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cells": {"text->image": {"smell": 0.9}}}, r"floors.cells.text->image: no factor 'smell'; there are digit, "),
        (
            {"cells": {"text->image": {"digit": 90}}},
            r"floors.cells.text->image.digit: expected a number between 0 and 1",
        ),
        ({"codec": 95.0}, r"config.evaluate.floors.codec: expected a number between 0 and 1, got 95.0"),
        ({"hard": ("smell",)}, "config.evaluate.floors.hard: no modality 'smell'; there are text, image, "),
        ({"digit": 0.9}, "floors.digit: unknown key; FloorsConfig knows reader, codec, leading"),
    ],
)
def test_an_invalid_config_is_an_error(given, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(FloorsConfig, given, "evaluate.floors")
