"""The tables of coherence, from generators whose numbers can be computed by hand."""

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.metrics.intervals import wilson
from codi_jax.polymnist import LABELS, MODALITIES, VIEWS
from codi_jax.polymnist.benchmark import RealSamples, agreeing, label_reader, measure, rows_of, to_table

N = 40
DIGIT, QUADRANT = np.arange(N) % 10, np.arange(N) // 10 % 4  # every pair once


def view(digit, quadrant):
    """Pairs stand for the pixels of a view."""
    return list(zip(digit.tolist(), quadrant.tolist(), strict=True))


READERS = {
    **dict.fromkeys(VIEWS, lambda values: dict(zip(LABELS, np.array(values).T, strict=True))),
    **{name: label_reader(name) for name in LABELS},
}


def values(digit, quadrant):
    return {
        **dict.fromkeys(VIEWS, view(digit, quadrant)),
        "digit": [LABELS["digit"][k] for k in digit],
        "quadrant": [LABELS["quadrant"][k] for k in quadrant],
    }


@pytest.fixture
def samples():
    real = values(DIGIT, QUADRANT)
    factors = {"digit": DIGIT, "quadrant": QUADRANT}
    return RealSamples(real, real, factors, {name: np.arange(N) for name in VIEWS})


def generate(prompts, to, n):
    """Outputs agree if they are generated together, but the first four samples of view_3 show another digit.

    What is generated alone shows the digit 0 in quadrant 0; a prompt decides the quadrant or nothing.
    """
    quadrant = QUADRANT
    if prompts and "quadrant" in prompts:
        quadrant = np.array([LABELS["quadrant"].index(value) for value in prompts["quadrant"]])
    together = values(DIGIT, quadrant)
    other = np.where(np.arange(n) < 4, (DIGIT + 1) % 10, DIGIT)
    together["view_3"] = view(other, quadrant)
    if len(to) == 1 and not (prompts and "view_1" in prompts):
        own = VIEWS.index(to[0]) if to[0] in VIEWS else 3
        together = values(np.full(n, own), np.zeros(n, int))
    return {name: together[name] for name in to}


def test_the_rows_of_a_generator_that_is_known(samples):
    rows = {(row.name, row.factor): row for row in measure(generate, READERS, samples)}
    five = rows["all five", "digit"]
    assert (five.value, five.n, five.n_effective) == (0.9, N, N)
    assert five.interval == pytest.approx(wilson(0.9, N))
    assert five.alone == 0 and rows["all five", "quadrant"].alone == 1  # all alone are in quadrant 0
    # Of three uniform readings and one whose four first samples are 1 to 4 instead of 0 to 3: 0 is shown 3 times in 40,
    # 4 is shown 5 times, and all others 4 times.
    assert five.chance == pytest.approx((8 * 4 + 3 + 5) / 40 / 1000) == pytest.approx(0.001)
    assert rows["all five", "quadrant"].value == 1 and rows["all five", "quadrant"].chance == pytest.approx(4 / 4**4)
    assert rows["all five", "both"].value == 0.9
    assert rows["all five", "both"].chance == pytest.approx(0.001 / 64)
    assert rows["quadrant → views", "digit"].value == 0.9 and rows["quadrant → views", "quadrant"].value == 1
    assert rows["digit → views", "digit"].value == 0.9 and rows["digit → views", "both"].value == 0.9
    assert rows["quadrant → views", "quadrant"].alone == 0.25
    assert rows["view_1 → view_2", "both"].value == 1 and rows["view_1 → view_3", "digit"].value == 0.9
    assert rows["view_1 → digit", "digit"].value == 1 and ("view_1 → digit", "quadrant") not in rows
    assert rows["view_1 → view_2", "digit"].alone is None
    assert rows["real views", "both"].value == rows["real view_1", "both"].value == 1
    assert five.published and not rows["all five", "both"].published


def test_shuffled_outputs_are_of_different_samples():
    """Rolled by one sample, no digit of 0, 1, …, 9, 0, … meets its own, but ten in a row keep their quadrant."""
    reading = {"digit": DIGIT, "quadrant": QUADRANT}
    rows = {row.factor: row for row in rows_of("x", [reading, reading])}
    assert (rows["digit"].value, rows["digit"].shuffled, rows["quadrant"].shuffled) == (1, 0, 0.9)


def test_factors_that_are_unread_agree_with_nothing():
    a = {"digit": np.array([1, -1, 2]), "quadrant": np.array([0, 1, 2])}
    b = {"digit": np.array([1, -1, 3])}
    assert agreeing([a, b])["digit"].tolist() == [True, False, False] and set(agreeing([a, b])) == {"digit"}
    assert agreeing([a, a])["both"].tolist() == [True, False, True]


def test_the_table_names_what_is_published_and_on_what(samples):
    text = to_table(measure(generate, READERS, samples))
    line = next(line for line in text.splitlines() if line.startswith("all five") and " digit " in line)
    assert "0.900" in line and "MUNITE 0.983" in line and "published, on other files" in text
    assert all(f"→ {name}" in text for name in MODALITIES[1:])


def test_a_single_sample_is_refused(samples):
    few = RealSamples({}, {}, {"digit": np.zeros(1, int)}, {})
    with pytest.raises(ConfigError, match=r"^n: expected at least 2 samples, got 1$"):
        measure(generate, READERS, few)
