"""ROUGE-L by hand."""

import pytest

from codi_jax.metrics.base import compute
from codi_jax.metrics.captions import Captions, RougeL
from codi_jax.metrics.captions.rouge import common_length, scores


def f(precision, recall):
    return 2.44 * precision * recall / (recall + 1.44 * precision)


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [
        ("a b c d", "b d", 2),
        ("a b a c", "c a b", 2),
        ("a", "b", 0),
        ("", "a", 0),
        ("a a a", "a a", 2),
        ("a b", "b a", 1),
    ],
)
def test_the_longest_common_subsequence(a, b, length):
    assert common_length(a.split(), b.split()) == common_length(b.split(), a.split()) == length


def test_precision_and_recall_may_come_from_two_references():
    """Of "the cat is here": "the cat lies over here" has 3 of 5 in common, "cat" 1 of 1."""
    (score,) = scores(Captions(["the cat is here"], [["the cat lies over here", "cat"]]))
    assert score == pytest.approx(f(3 / 4, 1))


def test_the_corpus_has_the_mean_of_its_samples():
    samples = Captions(["a b", "c", "", ""], [["a b"], ["d"], ["e"], [""]])
    assert scores(samples).tolist() == pytest.approx([1, 0, 0, 1])  # an empty caption is one empty token
    assert compute(RougeL(), [samples]) == pytest.approx({"rouge_l": 0.5, "n": 4})
