"""BLEU by hand, and its properties."""

import math

import numpy as np
import pytest

from codi_jax.metrics.base import compute
from codi_jax.metrics.captions import Bleu, Captions
from codi_jax.metrics.captions.bleu import scores, statistics


def test_a_corpus_by_hand():
    """Two samples.

    "the the cat" of "the cat sat" and "a cat": clipped 1-grams the, cat; 2-gram "the cat"; 3 tokens, closest length 3.
    "a dog" of "a dog runs far": 1-grams 2 of 2, 2-gram 1 of 1; 2 tokens, length 4. Sums: 4/5, 2/3, 0/1, 0/0; 5 of 7.
    """
    samples = Captions(["the the cat", "a dog"], [["the cat sat", "a cat"], ["a dog runs far"]])
    rows = statistics(samples)
    assert rows.tolist() == [[2, 1, 0, 0, 3, 2, 1, 0, 3, 3], [2, 1, 0, 0, 2, 1, 0, 0, 2, 4]]
    penalty = math.exp(1 - 7 / 5)
    numbers = compute(Bleu(), [samples])
    assert numbers["bleu_1"] == pytest.approx(4 / 5 * penalty)
    assert numbers["bleu_2"] == pytest.approx(math.sqrt(4 / 5 * 2 / 3) * penalty)
    # 1e-15 in place of no common 3-gram, and 1e-15 / 1e-9 without any 4-gram.
    assert numbers["bleu_3"] == pytest.approx((8 / 15 * 1e-15) ** (1 / 3) * penalty, rel=1e-6)
    assert numbers["bleu_4"] == pytest.approx((8 / 15 * 1e-15 * 1e-6) ** (1 / 4) * penalty, rel=1e-6)
    assert numbers["length_ratio"] == pytest.approx(5 / 7) and numbers["n"] == 2
    assert compute(Bleu(order=2), [samples]) == pytest.approx(
        {key: numbers[key] for key in ("bleu_1", "bleu_2", "length_ratio", "n")}
    )


def test_the_closest_length_is_the_shorter_of_two():
    (row,) = statistics(Captions(["a b c"], [["a b c d", "a b", "a b c d e f"]]))
    assert row[-2:].tolist() == [3, 2]


def test_a_long_hypothesis_has_no_penalty():
    """4 of 5 tokens are right, and 5 is above 4."""
    assert compute(Bleu(1), [Captions(["a b c d e"], [["a b c d"]])])["bleu_1"] == pytest.approx(4 / 5)


def test_rows_of_samples_can_be_drawn_again():
    samples = Captions(["a b c d e", "x", "a b"], [["a b c d f"], ["x y"], ["b a"]])
    rows = statistics(samples)
    draws = np.array([[0, 1, 2], [0, 0, 2]])
    found = scores(rows[draws].sum(1))
    twice = Captions([samples[0][i] for i in draws[1]], [samples[1][i] for i in draws[1]])
    for of_draw, corpus in zip(found, (samples, twice), strict=True):
        numbers = compute(Bleu(), [corpus])
        assert of_draw.tolist() == [numbers[f"bleu_{n}"] for n in range(1, 5)]


def test_an_order_of_at_least_one():
    with pytest.raises(ValueError, match="order: expected n-grams of at least 1 token, got 0"):
        Bleu(0)
