"""Every set of prompts to every set of outputs, against values computed by hand."""

import dataclasses

import numpy as np
import pytest

from codi_jax import digit_world
from codi_jax.digit_world.benchmark.combinations import batches, cells, mean, subsets, summary
from codi_jax.digit_world.benchmark.samples import EvaluationSamples
from codi_jax.digit_world.judges.readers import Reading
from codi_jax.metrics.intervals import proportion_interval

PAIR, FOUR = ("text", "image"), ("text", "image", "audio", "video")


def test_subsets_are_ordered_by_size():
    assert subsets(PAIR) == [("text",), ("image",), ("text", "image")]
    assert len(subsets(FOUR)) == 15 and subsets(FOUR)[0] == ("text",) and subsets(FOUR)[-1] == FOUR
    assert subsets(("a",)) == [("a",)] and subsets(()) == []


def test_batches_by_hand():
    # Three cells of two samples: rows 0 to 5, in batches of four; the last is padded with its first row.
    (first, weights), (second, others) = batches(PAIR, 2, 4)
    assert first.tolist() == [0, 1, 2, 3] and second.tolist() == [4, 5, 4, 4]
    assert {name: w.tolist() for name, w in weights.items()} == {"text": [1, 1, 0, 0], "image": [0, 0, 1, 1]}
    assert {name: w.tolist() for name, w in others.items()} == {"text": [1, 1, 1, 1], "image": [1, 1, 1, 1]}


@pytest.mark.parametrize(("n", "batch"), [(8, 64), (3, 7), (5, 5), (4, 512)])
def test_batches_cover_all_cells_once_and_every_row_has_a_prompt(n, batch):
    rows, masks = [], []
    for row, weights in batches(FOUR, n, batch):
        assert len(row) == batch and all(w.shape == (batch,) for w in weights.values())
        rows += row.tolist()
        masks += zip(*(weights[name] for name in FOUR), strict=True)
    assert rows[: 15 * n] == list(range(15 * n))
    assert all(any(mask) for mask in masks)
    for row, mask in zip(rows, masks, strict=True):
        assert tuple(name for name, w in zip(FOUR, mask, strict=True) if w) == subsets(FOUR)[row // n]


def reading(**factors):
    return Reading({name: np.array(values) for name, values in factors.items()})


def test_cells_by_hand():
    truth = {name: np.array(values) for name, values in {
        "digit": [1, 2, 9], "colour": [0, 3, 9], "motion": [0, 1, 9], "voice": [1, 1, 9],
    }.items()}  # fmt: skip
    # Cells text, image, text+image of two samples each; the third sample of the truth is not used.
    read = {
        "text": reading(digit=[1, 2, 1, 5, -1, 2], colour=[0, 3, 0, 0, 0, 3], motion=[0, 0] * 3, voice=[1, 1] * 3),
        "image": reading(digit=[1, 2, 5, 5, 1, 2], colour=[1, 3, 0, 3, 0, 3]),
    }
    got = dict(cells(PAIR, PAIR, 2, truth, read))
    assert list(got) == ["text->text+image", "image->text+image", "text+image->text+image"]
    first, second, third = got.values()
    assert first["n"] == 2
    assert first["digit"] == {"text": 1.0, "image": 1.0} and first["colour"] == {"text": 1.0, "image": 0.5}
    assert first["motion"] == {"text": 0.5} and first["voice"] == {"text": 1.0}
    assert second["digit"] == {"text": 0.5, "image": 0.0} and second["colour"] == {"text": 0.5, "image": 1.0}
    assert "motion" not in second and "voice" not in second  # an image prompt carries neither
    assert third["digit"] == {"text": 0.5, "image": 1.0}


def all_cells(n=2):
    """All cells of four modalities, with correct readings."""
    rng = np.random.default_rng(0)
    truth = {name: rng.integers(0, len(values), n) for name, values in digit_world.FACTORS.items()}
    table = {}
    for outputs in subsets(FOUR):
        read = {m: reading(**{f: np.tile(truth[f], 15) for f in digit_world.CARRIES[m]}) for m in outputs}
        table.update(cells(FOUR, outputs, n, truth, read))
    return table


def test_four_modalities_are_225_cells():
    table = all_cells()
    assert len(table) == 225 == len(subsets(FOUR)) ** 2
    for cell, row in table.items():
        inputs, outputs = (part.split("+") for part in cell.split("->"))
        assert set(row["digit"]) == set(outputs)  # all modalities carry the digit
        for factor in ("colour", "motion", "voice"):
            prompted = any(factor in digit_world.CARRIES[name] for name in inputs)
            carriers = {name for name in outputs if factor in digit_world.CARRIES[name]}
            assert set(row.get(factor, {})) == (carriers if prompted else set())
    assert "colour" not in table["audio->image"] and "voice" not in table["video->audio"]
    assert set(table["audio->text+video"]["motion"]) == {"text", "video"}


def test_summary_is_the_mean_over_cells_and_names_the_worst():
    table = all_cells()
    whole = dict.fromkeys((0.0, 0.05, 0.25, 0.5), 1.0)
    assert summary(table) == {"cells": 225, "digit": 1.0, "quantiles": whole, "worst": summary(table)["worst"]}
    table["image->audio"]["digit"] = {"audio": 0.25}
    table["audio->text+video"]["digit"] = {"text": 1.0, "video": 0.0}
    result = summary(table)
    assert result["digit"] == pytest.approx((223 + 0.25 + 0.5) / 225)
    assert list(result["worst"].items())[:2] == [("image->audio", 0.25), ("audio->text+video", 0.5)]
    assert len(result["worst"]) == 5
    assert result["quantiles"] == {0.0: 0.25, 0.05: 1.0, 0.25: 1.0, 0.5: 1.0}


def test_the_mean_has_an_interval_of_few_test_samples_and_not_of_many_results():
    """Six test samples prompt 100 cells; five are always right, one in half of its outputs."""
    digits = np.arange(6)
    outputs = {"text": {"digit": digits}, "image": {"digit": np.where(digits == 3, 9, digits)}}
    read = {f"cell {k}": {"read": outputs} for k in range(100)}
    samples = EvaluationSamples({"text": [], "image": []}, {"digit": np.append(digits, [7, 7])})
    found = mean(read, samples)
    assert (found["cells"], found["n"], found["clusters"]) == (100, 6, 6)
    assert found["digit"] == pytest.approx(5.5 / 6)
    expected = proportion_interval(np.tile([1, 1, 1, 0.5, 1, 1], 100), [np.tile(digits, 100)])
    assert found["interval"] == list(expected.interval) and found["n_effective"] == expected.n_effective < 12
    # Samples that share a glyph are fewer still.
    shared = dataclasses.replace(samples, instances={"glyph": np.array([4, 4, 4, 5, 5, 5, 6, 6])})
    assert mean(read, shared)["clusters"] == 2 and mean(read, shared)["n_effective"] < found["n_effective"]
